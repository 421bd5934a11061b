package balance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Shed says why a request was not let wait, or not any longer.
type Shed uint8

// Full lines shed newcomers, and the least urgent in favour of more urgent
// ones. Late is a request whose turn won't come in time at the rate at which
// the nodes answer, or has not come while they get more than they can answer.
// Timeout is one that has waited for as long as it may.
const (
	ShedFull Shed = iota
	ShedEvicted
	ShedLate
	ShedTimeout
	sheds
	notShed
)

var shedNames = [sheds]string{"full", "evicted", "late", "timeout"}

// String returns the name used in metrics.
func (s Shed) String() string { return shedNames[s] }

// Sheds lists all reasons, for metrics with one series each.
func Sheds() []Shed { return []Shed{ShedFull, ShedEvicted, ShedLate, ShedTimeout} }

// RefusalError is the error of a request that was shed.
type RefusalError struct {
	Why Shed
	// RetryAfter is when the requests that now wait will have been answered,
	// from 1 s to 60 s.
	RetryAfter time.Duration
}

func (r *RefusalError) Error() string {
	return fmt.Sprintf("no node has room and the queue refused (%v); retry after %v", r.Why, r.RetryAfter)
}

// QueueOptions are a queue's settings.
type QueueOptions struct {
	// Capacity is how many requests may wait.
	Capacity int
	// Patience is how long one may. Under overload it is less.
	Patience time.Duration
}

// queueRecheck is how long after its last try the first in the line tries again
// though nothing happened: time alone ends an ejection, and makes a node that
// hangs one not worth waiting for (worthWaiting).
const queueRecheck = 100 * time.Millisecond

// Queue is where requests wait, in order, until a node has room. Answers and
// nodes that become available call the next one; nobody polls, but for a look
// of the first one now and then.
//
// One waiter at a time has its turn: it tries to get a node, and passes the
// turn on when it has one, for there may be room for another. If it gets none
// it keeps its place, and the turn goes to whoever is first when the next
// answer comes. So a node's room can't be lost between two waiters, and no
// newcomer overtakes them.
type Queue struct {
	clock   func() time.Duration
	waiting atomic.Int64 // how many tickets there are
	shed    [sheds]atomic.Uint64

	mu     sync.Mutex
	line   line
	called *ticket // has its turn
	again  bool    // an answer came meanwhile
}

// waiter is the part of a ticket that a queue adds to its place in the line.
type waiter struct {
	call    chan struct{} // of capacity 1
	refusal *RefusalError // guarded by the queue's lock
}

// NewQueue returns an empty queue. clock tells the time as all others who use
// this package do.
func NewQueue(clock func() time.Duration, o QueueOptions) *Queue {
	q := &Queue{clock: clock}
	q.Configure(o)
	return q
}

// Configure changes the settings. Those who wait keep their places and
// deadlines.
func (q *Queue) Configure(o QueueOptions) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.line.capacity, q.line.patience = o.Capacity, o.Patience
}

// Len returns how many requests wait.
func (q *Queue) Len() int { return int(q.waiting.Load()) }

// Backlog returns how long it takes until all who wait have been let in, 0 if
// that is not known.
func (q *Queue) Backlog() time.Duration {
	if q.waiting.Load() == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.line.backlog()
}

// Shed returns how many requests were shed for the reason.
func (q *Queue) Shed(why Shed) uint64 { return q.shed[why].Load() }

// Wait calls try, which reserves a node if one has room, until it returns
// true: at once if nobody waits, and when it is the request's turn otherwise.
// Only one waiter's try runs at a time. The error is a *RefusalError or the
// context's.
func (q *Queue) Wait(ctx context.Context, u Urgency, try func() bool) error {
	return q.WaitSince(ctx, 0, u, try)
}

// WaitSince is Wait for a request that has waited elsewhere since a time before,
// which counts for its patience; 0 is now.
func (q *Queue) WaitSince(ctx context.Context, since time.Duration, u Urgency, try func() bool) error {
	if q.waiting.Load() == 0 && try() {
		return nil
	}
	now := q.clock()
	if since == 0 {
		since = now
	}
	t := &ticket{urgency: min(u, LeastUrgent), waiter: waiter{call: make(chan struct{}, 1)}}
	if refusal := q.enter(ctx, now, since, t); refusal != nil {
		return refusal
	}
	defer q.leave(t) // however try ends
	patience := time.NewTimer(t.deadline - now)
	defer patience.Stop()
	recheck := time.NewTimer(time.Hour)
	defer recheck.Stop()
	for {
		select {
		case <-t.call:
			switch served, refusal := q.turn(ctx, t, try); {
			case served:
				return nil
			case refusal != nil:
				return refusal
			}
			recheck.Reset(queueRecheck)
		case <-recheck.C:
			q.recheck(t)
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return q.refusal(ShedTimeout)
		}
	}
}

// Answered says that a node of this queue ended a request that took so long,
// and has room now.
func (q *Queue) Answered(took time.Duration) {
	if q.waiting.Load() == 0 {
		return // whoever comes now tries by itself
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	q.line.answered(now, took)
	q.wake(now)
}

// answered is Answered without a call.
func (q *Queue) answered(took time.Duration) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.line.answered(q.clock(), took)
}

// Wake says that a node may have room for another reason: it came up, its
// limit rose, a drain or an ejection ended.
func (q *Queue) Wake() {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake(q.clock())
}

func (q *Queue) wake(now time.Duration) {
	if q.called != nil {
		q.again = true
		return
	}
	q.next(now)
}

// next calls whoever is first, and refuses those whose time is over. Called
// with the lock held and nobody called.
func (q *Queue) next(now time.Duration) {
	q.again = false
	for t := q.line.late(now); t != nil; t = q.line.late(now) {
		why := ShedLate
		if now >= t.deadline {
			why = ShedTimeout
		}
		q.refuse(t, why)
	}
	if t := q.line.first(); t != nil {
		q.called = t
		t.call <- struct{}{}
	}
}

// refuse takes t out of the line and tells its waiter, who isn't called.
func (q *Queue) refuse(t *ticket, why Shed) {
	q.line.remove(t)
	q.waiting.Add(-1)
	t.refusal = q.refusalLocked(why)
	t.call <- struct{}{}
}

// enter puts t into the line.
func (q *Queue) enter(ctx context.Context, now, since time.Duration, t *ticket) *RefusalError {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.deadline = since + q.line.patience
	if deadline, ok := ctx.Deadline(); ok {
		t.deadline = min(t.deadline, now+time.Until(deadline))
	}
	evicted, shed := q.line.push(now, t, q.called)
	if shed != notShed {
		return q.refusalLocked(shed)
	}
	q.waiting.Add(1)
	if evicted != nil {
		q.waiting.Add(-1)
		evicted.refusal = q.refusalLocked(ShedEvicted)
		evicted.call <- struct{}{}
	}
	if q.line.length == 1 {
		q.wake(now) // an answer that came before t was in the line called nobody
	}
	return nil
}

// recheck calls t once more if it is still first.
func (q *Queue) recheck(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.called == nil && q.line.first() == t {
		q.next(q.clock())
	}
}

// turn lets the waiter of t try.
func (q *Queue) turn(ctx context.Context, t *ticket, try func() bool) (served bool, _ *RefusalError) {
	q.mu.Lock()
	refusal := t.refusal
	q.mu.Unlock()
	if refusal != nil || ctx.Err() != nil {
		return false, refusal // in the latter case, leave passes the turn on
	}
	served = try()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.called = nil
	now := q.clock()
	if served {
		q.line.admit(now, t)
		q.waiting.Add(-1)
	}
	if served || q.again {
		q.next(now)
	}
	return served, nil
}

// leave gives t's place back, and the turn if it has it. It does nothing to a
// ticket that is out of the line.
func (q *Queue) leave(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.line.remove(t) {
		return
	}
	q.waiting.Add(-1)
	if q.called == t {
		q.called = nil
		q.next(q.clock())
	}
}

func (q *Queue) refusal(why Shed) *RefusalError {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refusalLocked(why)
}

func (q *Queue) refusalLocked(why Shed) *RefusalError {
	q.shed[why].Add(1)
	return &RefusalError{Why: why, RetryAfter: q.line.retryAfter()}
}
