package gpuprobe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of polling.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Hour
	slowestPoll = 30 * time.Second // with back-off
	jitter      = 0.1              // of each pause, either way
)

// Reading is the state of a watched node.
type Reading struct {
	// Sample is the latest that could be read. Old samples are kept: how much
	// an old one is worth is for its user to say, by its MeasuredAt.
	Sample Sample
	// Err says why the latest try failed, nil after a success.
	Err error
	// TriedAt is when the latest try ended, zero before the first.
	TriedAt time.Time
	// Failures counts the tries that failed since the latest success. Waiting
	// for a first report (ErrNoReport) is none.
	Failures int
	// Samples counts the new ones, so that its user takes each but once: an
	// exporter that collects each 30 s is read more often than it measures.
	Samples uint64
}

// Watch is a use of a poller.
type Watch struct {
	poller    *poller
	interval  time.Duration
	onReading func(Reading)
	closed    sync.Once
}

// watches are the pollers of this process. They live here and not with a
// configuration, so that two configurations, as during a reload, share them.
var watches = pool{open: Open, pollers: map[string]*poller{}}

// NewWatch keeps reading a source until Close. However many watches name the
// same source, it is read once per interval, the shortest that any of them
// wants. After each try onReading, which may be nil, is called by the poller;
// it must return soon.
func NewWatch(c Config, interval time.Duration, onReading func(Reading)) (*Watch, error) {
	return watches.watch(c, interval, onReading)
}

// Latest returns the latest reading, at once.
func (w *Watch) Latest() Reading { return *w.poller.latest.Load() }

// Interval returns the pause between tries that succeed.
func (w *Watch) Interval() time.Duration { return w.interval }

// Close ends this use, and the polling with the last. It does not wait for a
// try under way; onReading may be called by it once more.
func (w *Watch) Close() {
	w.closed.Do(func() { w.poller.pool.leave(w) })
}

// pool has one poller per source.
type pool struct {
	open    func(Config) (Source, error)
	mu      sync.Mutex
	pollers map[string]*poller
}

// poller reads one source for all its watches.
type poller struct {
	pool   *pool
	key    string
	source Source
	latest atomic.Pointer[Reading]
	stop   context.CancelFunc
	sooner chan struct{} // the interval has become shorter

	watches map[*Watch]struct{} // pool.mu
}

func (p *pool) watch(c Config, interval time.Duration, onReading func(Reading)) (*Watch, error) {
	interval = min(max(interval, minInterval), maxInterval)
	c.Interval = interval
	key, err := json.Marshal(c) // sorts the mapping
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &Watch{interval: interval, onReading: onReading}
	if running, ok := p.pollers[string(key)]; ok {
		w.poller = running
		if interval < running.interval() {
			select {
			case running.sooner <- struct{}{}:
			default:
			}
		}
		running.watches[w] = struct{}{}
		return w, nil
	}
	source, err := p.open(c)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w.poller = &poller{
		pool: p, key: string(key), source: source, stop: stop,
		sooner: make(chan struct{}, 1), watches: map[*Watch]struct{}{w: {}},
	}
	w.poller.latest.Store(&Reading{})
	p.pollers[w.poller.key] = w.poller
	go w.poller.run(ctx)
	return w, nil
}

func (p *pool) leave(w *Watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(w.poller.watches, w)
	if len(w.poller.watches) == 0 {
		delete(p.pollers, w.poller.key)
		w.poller.stop()
	}
}

// interval is the shortest that is wanted. pool.mu is held.
func (p *poller) interval() time.Duration {
	shortest := maxInterval
	for w := range p.watches {
		shortest = min(shortest, w.interval)
	}
	return shortest
}

func (p *poller) run(ctx context.Context) {
	defer func() { _ = p.source.Close() }()
	// Not all at once when a configuration with many nodes starts.
	pause := time.Duration(rand.Float64() * float64(min(p.pace(0), time.Second)/10))
	for {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.sooner:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		r := p.try(ctx)
		if ctx.Err() != nil {
			return
		}
		p.latest.Store(&r)
		p.call(r)
		pause = p.pace(r.Failures)
		pause += time.Duration((rand.Float64()*2 - 1) * jitter * float64(pause))
	}
}

// pace is the pause after so many failures: it doubles to 30 s, as a node that
// is down needs no questions, and a full network no more of them.
func (p *poller) pace(failures int) time.Duration {
	p.pool.mu.Lock()
	interval := p.interval()
	p.pool.mu.Unlock()
	return min(interval<<min(failures, 10), max(interval, slowestPoll))
}

// try reads once and keeps the last good sample.
func (p *poller) try(ctx context.Context) Reading {
	// A slow answer is a stale one, and the next is due.
	ctx, cancel := context.WithTimeout(ctx, min(max(p.pace(0), time.Second), readTimeout))
	defer cancel()
	r := *p.latest.Load()
	s, err := readSafely(ctx, p.source)
	r.TriedAt, r.Err = time.Now(), err
	switch {
	case errors.Is(err, ErrNoReport):
		// Nobody was asked: the first report must not find us at rest.
		return r
	case err != nil:
		r.Failures++
		return r
	}
	if r.Samples == 0 || !s.MeasuredAt.Equal(r.Sample.MeasuredAt) {
		r.Samples++
	}
	r.Sample, r.Failures = s, 0
	return r
}

// readSafely keeps what a node sends from ending the process, even where a
// parser has a fault.
func readSafely(ctx context.Context, source Source) (s Sample, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("reading telemetry: panic: %v", v)
		}
	}()
	return source.Read(ctx)
}

func (p *poller) call(r Reading) {
	p.pool.mu.Lock()
	var calls []func(Reading)
	for w := range p.watches {
		if w.onReading != nil {
			calls = append(calls, w.onReading)
		}
	}
	p.pool.mu.Unlock()
	for _, f := range calls {
		f(r)
	}
}
