package simnode

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Discipline is how a node shares its GPU among requests.
type Discipline string

const (
	// FIFO runs up to Slots requests at full speed each; others wait in order.
	FIFO Discipline = "fifo"
	// ProcessorSharing runs all at once; beyond Slots they slow one another.
	ProcessorSharing Discipline = "ps"
)

// UnmarshalText makes a Discipline a flag.
func (d *Discipline) UnmarshalText(text []byte) error {
	switch v := Discipline(text); v {
	case FIFO, ProcessorSharing:
		*d = v
		return nil
	}
	return fmt.Errorf("unknown discipline %q: want %s or %s", text, FIFO, ProcessorSharing)
}

// MarshalText is the other half of that.
func (d Discipline) MarshalText() ([]byte, error) { return []byte(d), nil }

// engine is the GPU: jobs with work left, done at a speed that can change at
// any time. It computes in virtual time, so that a timer that fires late delays
// an answer but loses no capacity.
type engine struct {
	discipline Discipline
	slots      int

	mu       sync.Mutex
	slowdown float64 // service takes so many times longer, 1 for none
	share    float64 // of a co-tenant, 0 to below 1
	waiting  []*job
	running  []*job
	at       time.Time // up to which the work is accounted for
	timer    *time.Timer
	busy     meter
}

type job struct {
	left float64 // seconds at full speed
	done chan struct{}
}

func newEngine(d Discipline, slots int) *engine {
	now := time.Now()
	return &engine{discipline: d, slots: slots, slowdown: 1, at: now, busy: newMeter(now)}
}

// submit adds work, which is done whether or not anybody waits for it: a model
// server does not notice that a client has left.
func (e *engine) submit(work time.Duration) *job {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance(time.Now())
	j := &job{left: work.Seconds(), done: make(chan struct{})}
	e.waiting = append(e.waiting, j)
	e.schedule()
	return j
}

// set changes the speed of the work under way and of all to come.
func (e *engine) set(slowdown, share float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance(time.Now())
	e.slowdown, e.share = slowdown, share
	e.schedule()
}

// load returns how many requests run and wait, and how busy the GPU was over
// the last second.
func (e *engine) load() (running, waiting int, utilization float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.advance(now)
	e.schedule()
	return len(e.running), len(e.waiting), e.busy.mean(now, time.Second)
}

func (e *engine) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advance(time.Now())
	e.schedule()
}

// speed is what each running job gets done per second.
func (e *engine) speed() float64 {
	v := (1 - e.share) / e.slowdown
	if n := len(e.running); e.discipline == ProcessorSharing && n > e.slots {
		v *= float64(e.slots) / float64(n)
	}
	return v
}

// advance accounts for the work done until now, one completion after the other.
func (e *engine) advance(now time.Time) {
	for len(e.running) > 0 {
		v := e.speed()
		next := e.at.Add(e.untilNext(v))
		step := next
		if step.After(now) {
			step = now
		}
		done := step.Sub(e.at).Seconds() * v
		rest := e.running[:0]
		for _, j := range e.running {
			if j.left -= done; j.left > 1e-9 || step.Before(next) {
				rest = append(rest, j)
			} else {
				close(j.done)
			}
		}
		clear(e.running[len(rest):])
		e.running = rest
		e.at = step
		e.start()
		if step.Before(next) {
			return
		}
	}
	e.at = now
}

// untilNext is how long until the first running job is done; at least a
// nanosecond, so that every step gets somewhere.
func (e *engine) untilNext(speed float64) time.Duration {
	least := math.Inf(1)
	for _, j := range e.running {
		least = min(least, j.left)
	}
	return max(1, time.Duration(math.Ceil(least/speed*1e9)))
}

// start moves waiting jobs to the GPU.
func (e *engine) start() {
	for len(e.waiting) > 0 && (e.discipline == ProcessorSharing || len(e.running) < e.slots) {
		e.running = append(e.running, e.waiting[0])
		e.waiting[0] = nil
		e.waiting = e.waiting[1:]
	}
	level := e.share
	if len(e.running) > 0 {
		level = 1
	}
	e.busy.set(e.at, level)
}

// schedule sets the timer for the next completion.
func (e *engine) schedule() {
	e.start()
	if e.timer != nil {
		e.timer.Stop()
	}
	if len(e.running) > 0 {
		e.timer = time.AfterFunc(e.untilNext(e.speed()), e.wake)
	}
}

func (e *engine) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
}
