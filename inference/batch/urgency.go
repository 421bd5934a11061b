package batch

import (
	"cmp"
	"slices"
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

// turn is when a request of that urgency counts as having come.
func (u Urgency) turn(came time.Time) time.Time {
	return came.Add(time.Duration(min(u, LeastUrgent)) * headStart)
}

// place is the index in the queue at which a new job's items belong: behind all
// whose turn is not later. b.mu is held.
func (b *Batcher[In, Out]) place(j *job[In, Out]) int {
	return sort.Search(len(b.waiting), func(i int) bool { return b.waiting[i].job.turn.After(j.turn) })
}

// makeRoom lets the newest of the least urgent jobs give way to a more urgent
// one, until that many places are free. If there are not enough of them it
// changes nothing. b.mu is held.
func (b *Batcher[In, Out]) makeRoom(j *job[In, Out], need int) bool {
	var lesser []*job[In, Out] // in the order of the queue, which is that of coming among equals
	items := make(map[*job[In, Out]]int)
	for _, it := range b.waiting {
		other := it.job
		if other.urgency <= j.urgency || !other.started.IsZero() {
			continue
		}
		if items[other] == 0 {
			lesser = append(lesser, other)
		}
		items[other]++
	}
	slices.Reverse(lesser)
	slices.SortStableFunc(lesser, func(x, y *job[In, Out]) int { return cmp.Compare(y.urgency, x.urgency) })
	leaving := 0
	for ; need > 0; leaving++ {
		if leaving == len(lesser) {
			return false
		}
		need -= items[lesser[leaving]]
	}
	for _, other := range lesser[:leaving] {
		b.withdraw(other)
		other.fail(&OverloadedError{Reason: "others were more urgent", RetryAfter: b.backlog()})
	}
	return true
}
