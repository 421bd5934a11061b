package balance

import (
	"math"
	"time"
)

// Urgency orders waiting requests as RFC 9218 orders responses: 0 is the most
// urgent, 7 the least, 3 the default.
type Urgency uint8

// The range of urgencies.
const (
	MostUrgent     Urgency = 0
	DefaultUrgency Urgency = 3
	LeastUrgent    Urgency = 7

	urgencies = LeastUrgent + 1
)

const (
	// lineAgeing is the head start of one step of urgency. A request waits at
	// most so much longer, for each step, than it would first come first
	// served: nobody starves, and within a second urgency is strict.
	lineAgeing = time.Second

	// lineMemory is the time constant of the rate of answers, in time in which
	// somebody waits; at least lineMemoryServices times what an answer takes.
	lineMemory         = time.Second
	lineMemoryServices = 8

	// lineEvidence is how many answers, after decay, make a rate.
	lineEvidence = 4.0

	// While more arrives than the nodes can answer, nobody gains by waiting:
	// who is served sooner is as many as who is served later. Then the line is
	// kept so short that a request waits at most as long as lineServices
	// answers take, at least lineShort. CoDel does so for packets, at 5 ms.
	lineServices = 4
	lineShort    = 250 * time.Millisecond

	// More arrives means: in each of the last two stretches of that length,
	// lineOverload times as many requests as answers, and a standard deviation
	// more. One burst is over in one stretch, and is served as it came.
	lineOverload = 1.1

	// Nodes that answer so much more in one stretch than in the one before are
	// still being found to do more: their limits rise from nothing when a
	// region's load comes to them.
	lineGrowth = 1.25

	// An overload too small to be seen in two stretches is one that has let
	// nobody in sooner for lineLong, and goes on.
	lineLong = time.Second

	// lineForget is how long it takes to believe that answers take longer.
	lineForget = time.Minute
)

// ticket is a place in a line.
type ticket struct {
	urgency    Urgency
	arrived    time.Duration
	deadline   time.Duration
	prev, next *ticket
	in         bool
	waiter
}

// line is the order in which requests wait. It is first come, first served
// within an urgency; between urgencies, the request that came first wins, with
// lineAgeing's head start for each step. It does not lock, and knows the time
// only from its callers.
type line struct {
	capacity int
	patience time.Duration

	levels [urgencies]struct {
		first, last *ticket
		length      int
	}
	length int

	// Moving average of the time that answers take, in seconds, and the lowest
	// that it was: under overload they wait at the node, too.
	service, best float64

	// Time with somebody waiting, in seconds, and the answers in it.
	at            time.Duration
	span, answers float64

	// This stretch and the two before, and when a request was last let in soon.
	traffic [3]struct{ arrivals, answers float64 }
	began   time.Duration
	soon    time.Duration
}

// push puts t into the line, unless there is no place for it, or no hope that
// its turn comes in time: those are shed, and told so at once. In a full line
// it takes the place of the newest of the least urgent tickets, if that is
// less urgent than t and isn't keep; then it is returned as evicted.
func (l *line) push(now time.Duration, t, keep *ticket) (evicted *ticket, shed Shed) {
	l.pass(now)
	l.traffic[0].arrivals++
	if l.length == 0 {
		l.soon = now
	}
	t.arrived = now
	if l.wait(t.urgency) > min(t.deadline-now, l.limit(now)) {
		return nil, ShedLate
	}
	if l.length >= l.capacity {
		evicted = l.lowest(t.urgency, keep)
		if evicted == nil {
			return nil, ShedFull
		}
		l.remove(evicted)
	}
	level := &l.levels[t.urgency]
	t.prev, t.next, t.in = level.last, nil, true
	if level.last == nil {
		level.first = t
	} else {
		level.last.next = t
	}
	level.last = t
	level.length++
	l.length++
	return evicted, notShed
}

// lowest returns the newest ticket of the least urgent level below u.
func (l *line) lowest(u Urgency, keep *ticket) *ticket {
	for level := LeastUrgent; level > u; level-- {
		t := l.levels[level].last
		if t != nil && t == keep {
			t = t.prev
		}
		if t != nil {
			return t
		}
	}
	return nil
}

// remove takes t out of the line, wherever it stands, and reports whether it
// stood there.
func (l *line) remove(t *ticket) bool {
	if !t.in {
		return false
	}
	level := &l.levels[t.urgency]
	if t.prev == nil {
		level.first = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next == nil {
		level.last = t.prev
	} else {
		t.next.prev = t.prev
	}
	t.prev, t.next, t.in = nil, nil, false
	level.length--
	l.length--
	return true
}

// first returns the ticket whose turn it is, nil if nobody waits.
func (l *line) first() *ticket {
	var best *ticket
	var least time.Duration
	for u := range l.levels {
		t := l.levels[u].first
		if t == nil {
			continue
		}
		if turn := t.arrived + time.Duration(u)*lineAgeing; best == nil || turn < least {
			best, least = t, turn
		}
	}
	return best
}

// late returns a ticket that has waited for too long, nil if there is none.
// Deadlines within a level may be out of order; those are for their waiters
// to watch.
func (l *line) late(now time.Duration) *ticket {
	limit := l.limit(now)
	for u := range l.levels {
		if t := l.levels[u].first; t != nil && (now >= t.deadline || now-t.arrived > limit) {
			return t
		}
	}
	return nil
}

// admit takes t out of the line because a node has room for it.
func (l *line) admit(now time.Duration, t *ticket) {
	l.pass(now)
	if now-t.arrived <= l.short() {
		l.soon = now
	}
	l.remove(t)
}

// answered hears how long an answer took.
func (l *line) answered(now, took time.Duration) {
	forget := min(1, float64(now-l.at)/float64(lineForget))
	l.pass(now)
	l.traffic[0].answers++
	if l.length > 0 {
		l.answers++
	}
	if l.service == 0 {
		l.service = took.Seconds()
		l.best = l.service
	}
	l.service += (took.Seconds() - l.service) / 32
	l.best = min(l.service, l.best+(l.service-l.best)*forget)
}

// pass lets time pass for the rates. Only time with somebody waiting counts:
// without, answers tell the clients' rate and not the nodes'.
func (l *line) pass(now time.Duration) {
	if length := l.short(); now-l.began >= length {
		if now-l.began >= 2*length {
			clear(l.traffic[:]) // nothing happened in the last one
		}
		copy(l.traffic[1:], l.traffic[:])
		l.traffic[0].arrivals, l.traffic[0].answers = 0, 0
		l.began = now
	}
	since := max(0, now-l.at)
	l.at = now
	if l.length == 0 || since == 0 {
		return
	}
	keep := math.Exp(-since.Seconds() / max(lineMemory.Seconds(), lineMemoryServices*l.best))
	l.span = l.span*keep + since.Seconds()
	l.answers *= keep
}

// rate returns how many requests a second leave the line for a node, 0 if that
// is not known.
func (l *line) rate() float64 {
	if l.answers < lineEvidence || l.span == 0 {
		return 0
	}
	return l.answers / l.span
}

// wait returns how long a request of the given urgency would wait if it came
// now, 0 if that is not known. Less urgent requests that have waited for long
// enough to go first are not counted; there are few.
func (l *line) wait(u Urgency) time.Duration {
	rate := l.rate()
	if rate == 0 {
		return 0
	}
	ahead := 0
	for level := range u + 1 {
		ahead += l.levels[level].length
	}
	return seconds(float64(ahead) / rate)
}

// backlog is how long it takes until all who wait have been let in, 0 if that
// is not known.
func (l *line) backlog() time.Duration { return l.wait(LeastUrgent) }

// short is how long requests wait at most under overload.
func (l *line) short() time.Duration {
	return max(lineShort, lineServices*seconds(l.best))
}

// limit returns how long requests may wait at present.
func (l *line) limit(now time.Duration) time.Duration {
	if l.overloaded(now) {
		return min(l.patience, l.short())
	}
	return l.patience
}

func (l *line) overloaded(now time.Duration) bool {
	if l.rate() == 0 || l.length == 0 {
		return false
	}
	much, more := true, true
	for _, t := range l.traffic[1:] {
		much = much && t.arrivals > lineOverload*t.answers+math.Sqrt(t.answers)
		more = more && t.arrivals >= t.answers && t.arrivals > 0
	}
	grows := l.traffic[1].answers > lineGrowth*l.traffic[2].answers
	return much && !grows || more && now-l.soon > lineLong
}

// What a refused client is told is within these bounds.
const minRetry, maxRetry = time.Second, time.Minute

// retryAfter returns when those who wait now will have been answered, in full
// seconds as the Retry-After field has them.
func (l *line) retryAfter() time.Duration {
	rate := l.rate()
	if rate == 0 {
		return minRetry
	}
	return min(maxRetry, max(minRetry, seconds(math.Ceil(float64(l.length)/rate))))
}
