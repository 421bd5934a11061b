package healthcheck

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	jitter = 0.1 // of each pause, either way
	// eager is how many times sooner than usual the next check comes at a node
	// that is down, where it keeps nobody from being served (the idea of HAProxy's
	// fastinter), and how many times sooner again if nothing runs there or once
	// it has passed one. Failures are never hurried: a short stumble is no death.
	eager = 4
	// remember is how long the verdict on a node that nobody checks any more
	// is kept: a configuration that finds its nodes dynamically meets them only
	// with its first request, when the one before has let go of them.
	remember = 10 * time.Minute
	// maxRemembered bounds what a source that makes up addresses can cost.
	maxRemembered = 4096
)

// Watch is a use of a node's check.
type Watch struct {
	prober   *prober
	target   Target
	onChange func(Change)
	over     context.Context // ends with the watch
	end      context.CancelFunc
}

// probers are the checks of this process. They live here and not with a
// configuration, so that two of them, as during a reload, share them.
var probers pool

// pool has one prober per key.
type pool struct {
	mu      sync.Mutex
	running map[string]*prober
	past    map[string]past
}

// past is the verdict of a prober that has ended.
type past struct {
	verdict
	until time.Time
}

// prober asks one node for all its watches.
type prober struct {
	pool  *pool
	check Check
	stop  context.CancelFunc
	down  atomic.Bool

	verdict      // of the goroutine that runs; at the end, pool.mu
	absent  bool // what the last check said, likewise

	watches []*Watch // pool.mu; the newest last
}

// New keeps checking a node until Close. When the verdict changes onChange is
// called, which must return soon. Of several watches of one key, the newest
// says how the node is reached.
func New(c Check, t Target, onChange func(Change)) *Watch { return probers.watch(c, t, onChange) }

// Down returns the present verdict.
func (w *Watch) Down() bool { return w.prober.down.Load() }

// Close ends this use, and the checks with the last. It does not wait for a
// check under way, but calls it off if it uses this watch's transport.
func (w *Watch) Close() { probers.leave(w) }

func (p *pool) watch(c Check, t Target, onChange func(Change)) *Watch {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &Watch{target: t, onChange: onChange}
	w.over, w.end = context.WithCancel(context.Background())
	if running, ok := p.running[t.Key]; ok {
		w.prober = running
		running.watches = append(running.watches, w)
		return w
	}
	v := verdict{rise: c.Rise, fall: c.Fall, down: c.StartDown}
	if before, ok := p.past[t.Key]; ok {
		if time.Now().Before(before.until) {
			v = before.verdict
		}
		delete(p.past, t.Key)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.prober = &prober{pool: p, check: c, stop: stop, verdict: v, watches: []*Watch{w}}
	w.prober.down.Store(v.down)
	if p.running == nil {
		p.running, p.past = make(map[string]*prober), make(map[string]past)
	}
	p.running[t.Key] = w.prober
	go w.prober.run(ctx)
	return w
}

func (p *pool) leave(w *Watch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.end()
	for i, other := range w.prober.watches {
		if other == w {
			w.prober.watches = append(w.prober.watches[:i:i], w.prober.watches[i+1:]...)
			break
		}
	}
	if len(w.prober.watches) > 0 || p.running[w.target.Key] != w.prober {
		return
	}
	delete(p.running, w.target.Key)
	w.prober.stop()
	now := time.Now()
	if len(p.past) >= maxRemembered {
		for key, v := range p.past {
			if now.After(v.until) {
				delete(p.past, key)
			}
		}
		if len(p.past) >= maxRemembered {
			clear(p.past)
		}
	}
	p.past[w.target.Key] = past{w.prober.verdict, now.Add(remember)}
}

// newest returns the watch whose target is to be used, nil if none is left.
func (p *prober) newest() *Watch {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	if len(p.watches) == 0 {
		return nil
	}
	return p.watches[len(p.watches)-1]
}

func (p *prober) run(ctx context.Context) {
	// Not all at once when a configuration with many nodes starts.
	pause := time.Duration(rand.Float64() * float64(min(p.check.Interval, time.Second)) / 10)
	for {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		began := time.Now()
		if w := p.newest(); w != nil {
			o, reason := p.check.ask(w.over, w.target)
			if w.over.Err() == nil { // else what came of it says nothing
				p.hear(o, reason)
			}
		}
		pause = time.Duration(float64(p.interval()) * (1 + jitter*(2*rand.Float64()-1)))
		pause = max(0, pause-time.Since(began))
	}
}

// interval is the time to the next check.
func (p *prober) interval() time.Duration {
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	switch {
	case !p.verdict.down:
		return p.check.Interval
	case p.passes == 0 && !p.absent:
		return p.check.Interval / eager
	}
	return p.check.Interval / (eager * eager)
}

// hear takes in an outcome and tells the watches if it changes the verdict.
func (p *prober) hear(o outcome, reason string) {
	p.pool.mu.Lock()
	changed := p.verdict.hear(o)
	p.absent = o == absent
	c := Change{Down: p.verdict.down, Reason: reason}
	watches := append([]*Watch(nil), p.watches...)
	p.pool.mu.Unlock()
	if !changed {
		return
	}
	row := p.check.Rise
	if c.Down {
		row = p.check.Fall
	} else {
		c.Reason = "passed"
	}
	if row > 1 {
		c.Reason += fmt.Sprintf(", %d times in a row", row)
	}
	p.down.Store(c.Down)
	for _, w := range watches {
		if w.onChange != nil && w.over.Err() == nil {
			w.onChange(c)
		}
	}
}
