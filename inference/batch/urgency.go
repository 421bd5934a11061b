package batch

import (
	"sort"
	"time"
)

// Urgency orders waiting requests as RFC 9218 orders responses: 0 is the most
// urgent, 7 the least. Each step is a head start of a second, so that within a
// second the order is strict, and nobody waits more than seven seconds longer
// than first come, first served.
type Urgency uint8

// Urgencies of RFC 9218, section 4.1.
const (
	MostUrgent     Urgency = 0
	DefaultUrgency Urgency = 3
	LeastUrgent    Urgency = 7
)

const headStart = time.Second

// Order says where among the waiting a request belongs.
type Order struct {
	Urgency Urgency
	// Came is when the request counts as having come, for one that has waited
	// elsewhere before; zero is now.
	Came time.Time
	// Patient requests wait until their context ends, however long that is
	// beyond Options.QueueWait.
	Patient bool
}

// turn is when a request of that order counts as having come when compared
// with others.
func (o Order) turn(now time.Time) time.Time {
	if !o.Came.IsZero() && o.Came.Before(now) {
		now = o.Came
	}
	return now.Add(time.Duration(min(o.Urgency, LeastUrgent)) * headStart)
}

// place is the index in the queue at which a new job's items belong: behind all
// whose turn is not later. b.mu is held.
func (b *Batcher[In, Out]) place(j *job[In, Out]) int {
	return sort.Search(len(b.waiting), func(i int) bool { return b.waiting[i].job.turn.After(j.turn) })
}

// makeRoom lets those whose turn comes last give way to a job whose turn comes
// sooner, until it finds room for so many items. Who has begun stays: its work
// would be lost. If there is not enough room to make, nobody goes. b.mu is held.
func (b *Batcher[In, Out]) makeRoom(j *job[In, Out], size int) bool {
	stay := len(b.waiting)
	fits := func() bool { return stay == 0 || stay+size <= b.opts.QueueLength }
	var leaving []*job[In, Out]
	for i := len(b.waiting) - 1; i >= 0 && !fits(); i-- {
		other := b.waiting[i].job
		switch {
		case !other.turn.After(j.turn):
			return false
		case other.started.IsZero():
			if len(leaving) == 0 || leaving[len(leaving)-1] != other {
				leaving = append(leaving, other)
			}
			stay--
		}
	}
	if !fits() {
		return false
	}
	for _, other := range leaving {
		b.withdraw(other)
		other.fail(&OverloadedError{Reason: "others were more urgent", RetryAfter: b.backlog()})
	}
	return true
}
