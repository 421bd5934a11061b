package balance

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Audience is the queues whose requests may go to a node: those of all
// handlers and configurations that use it. Its zero value is empty.
type Audience struct {
	queues atomic.Pointer[[]*Queue] // a queue is in it as often as it joined
	turn   atomic.Uint32
	mu     sync.Mutex // for writers
}

// Join adds a queue. Every call must be matched by one of Leave.
func (a *Audience) Join(q *Queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []*Queue
	if old := a.queues.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = append(all, q)
	a.queues.Store(&all)
}

// Leave takes back one call of Join.
func (a *Audience) Leave(q *Queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.queues.Load()
	if old == nil {
		return
	}
	if i := slices.Index(*old, q); i >= 0 {
		all := slices.Delete(slices.Clone(*old), i, i+1)
		a.queues.Store(&all)
	}
}

// Answered says that the node ended a request that took so long. It came from
// own, nil if it did not wait in any; the others hear only that there is room,
// for at what rate the node answers them is another matter. Which queue hears
// it first goes round.
func (a *Audience) Answered(own *Queue, took time.Duration) {
	if own != nil {
		own.answered(took)
	}
	a.Wake()
}

// Wake says that the node may have room.
func (a *Audience) Wake() {
	all := a.queues.Load()
	if all == nil || len(*all) == 0 {
		return
	}
	n := uint32(len(*all))
	first := uint32(0)
	if n > 1 {
		first = a.turn.Add(1)
	}
	for i := range n {
		(*all)[(first+i)%n].Wake()
	}
}
