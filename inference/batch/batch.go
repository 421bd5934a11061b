// Package batch turns concurrent requests into batches of bounded size and
// age. It knows nothing of what an item is.
//
// A batch forms while all workers are busy: a worker that becomes free takes
// what has gathered, divided by the workers that are free with it, so that
// company never leaves a worker idle. Only when the batch before had company
// does a free worker wait for more (at most Options.Wait after the oldest item
// came): a lone request never waits for others that will not come.
//
// Requests wait in the order in which they came, the more urgent with a head
// start. When too many wait, those whose turn comes last go. One whose context
// would end before its turn is refused at once.
package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Options bound a Batcher. All must be positive, except Wait, for which 0
// means never to wait for company.
type Options struct {
	// Workers is the number of batches that run at the same time.
	Workers int
	// Size is the most items in one batch.
	Size int
	// Wait is how long the oldest waiting item may wait for company while a
	// worker is free.
	Wait time.Duration
	// QueueLength is the most items that may wait. One request of more items
	// than that is accepted when nothing else waits.
	QueueLength int
	// QueueWait is how long a request may wait for its first item to start.
	QueueWait time.Duration
}

// Func computes one output per item, in order. Its context ends when nobody
// waits for any of the items any more.
type Func[In, Out any] func(ctx context.Context, items []In) ([]Out, error)

// ErrClosed is returned by Do after Close.
var ErrClosed = errors.New("the batcher is closed")

// OverloadedError says that a request found no place or no worker in time.
type OverloadedError struct {
	// Reason is for people: "512 are waiting" or "waited 2s".
	Reason string
	// RetryAfter estimates when the present queue will have been worked off.
	RetryAfter time.Duration
}

func (e *OverloadedError) Error() string { return "overloaded: " + e.Reason }

// PanicError is a panic of the function, given to the requests of its batch.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Stats tell one request where its time went.
type Stats struct {
	// Queue is the wait until the first item started.
	Queue time.Duration
	// Run is the time from there to the last result.
	Run time.Duration
	// BatchSize is the largest batch that an item of the request was in.
	BatchSize int
}

// Batcher runs a Func over batches. Create it with New, end it with Close.
type Batcher[In, Out any] struct {
	opts Options
	run  Func[In, Out]

	mu      sync.Mutex
	wake    sync.Cond // on mu: items came, a wait ended, or closed
	waiting []item[In, Out]
	free    int           // workers without a batch
	company int           // size of the batch before
	queued  int           // jobs of which no item has started
	jobs    int           // jobs that Do has not returned from
	perItem time.Duration // moving average of worker time per item
	closed  bool
	workers sync.WaitGroup
}

// New starts the workers.
func New[In, Out any](opts Options, run Func[In, Out]) *Batcher[In, Out] {
	b := &Batcher[In, Out]{opts: opts, run: run}
	b.wake.L = &b.mu
	for range opts.Workers {
		b.workers.Go(b.work)
	}
	return b
}

// Do is DoIn with DefaultUrgency.
func (b *Batcher[In, Out]) Do(ctx context.Context, items []In) ([]Out, Stats, error) {
	return b.DoIn(ctx, Order{Urgency: DefaultUrgency}, items)
}

// DoIn waits for the results of all items. It returns early with ctx.Err() when
// the context ends; items that have not started are then never run. Other errors
// are ErrClosed, an *OverloadedError, a *PanicError or the function's own.
func (b *Batcher[In, Out]) DoIn(ctx context.Context, order Order, items []In) ([]Out, Stats, error) {
	if err := ctx.Err(); err != nil {
		return nil, Stats{}, err
	}
	if len(items) == 0 {
		return nil, Stats{}, nil
	}
	now := time.Now()
	j := &job[In, Out]{
		ctx: ctx, out: make([]Out, len(items)), queued: now, turn: order.turn(now), remaining: len(items),
		batches:  make(map[*running[In, Out]]struct{}, 1),
		finished: make(chan struct{}), first: make(chan struct{}),
	}
	if err := b.enqueue(ctx, j, items); err != nil {
		return nil, Stats{}, err
	}
	defer b.returned(j)

	patience := time.NewTimer(b.opts.QueueWait)
	defer patience.Stop()
	if order.Patient {
		patience.Stop()
	}
	first := j.first
	for {
		select {
		case <-j.finished:
			return b.result(j)
		case <-first:
			patience.Stop()
			first = nil
		case <-patience.C:
			if err := b.giveUp(j); err != nil {
				return nil, b.stats(j), err
			}
		case <-ctx.Done():
			b.leave(j)
			return nil, b.stats(j), ctx.Err()
		}
	}
}

// Close refuses new requests, fails the waiting ones, and returns when the
// running batches have ended.
func (b *Batcher[In, Out]) Close() {
	b.mu.Lock()
	b.closed = true
	for _, it := range b.waiting {
		it.job.fail(ErrClosed)
	}
	b.waiting = nil
	b.wake.Broadcast()
	b.mu.Unlock()
	b.workers.Wait()
}

// Waiting returns the number of items that no worker has taken yet.
func (b *Batcher[In, Out]) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// Load is how busy a Batcher is, in calls of Do.
type Load struct {
	// InFlight are the calls under way, Queued those of them that wait for
	// their first item to start.
	InFlight, Queued int
}

// Load returns how busy the batcher is now.
func (b *Batcher[In, Out]) Load() Load {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Load{InFlight: b.jobs, Queued: b.queued}
}

// returned ends a job's part in the load.
func (b *Batcher[In, Out]) returned(j *job[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs--
	if j.started.IsZero() {
		b.queued--
	}
}

func (b *Batcher[In, Out]) enqueue(ctx context.Context, j *job[In, Out], items []In) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	at := b.place(j)
	if deadline, ok := ctx.Deadline(); ok && at > 0 && b.lasting(at) > time.Until(deadline) {
		return &OverloadedError{Reason: fmt.Sprintf("%d are waiting, too many for the time that is left", at), RetryAfter: b.lasting(at)}
	}
	if n := len(b.waiting); n > 0 && n+len(items) > b.opts.QueueLength && !b.makeRoom(j, len(items)) {
		return &OverloadedError{Reason: fmt.Sprintf("%d are waiting", n), RetryAfter: b.backlog()}
	}
	more := make([]item[In, Out], len(items))
	for i, in := range items {
		more[i] = item[In, Out]{in: in, index: i, job: j}
	}
	b.waiting = slices.Insert(b.waiting, b.place(j), more...)
	b.jobs++
	b.queued++
	b.wake.Broadcast()
	return nil
}

// backlog estimates how long the waiting items will take. b.mu is held.
func (b *Batcher[In, Out]) backlog() time.Duration { return b.lasting(len(b.waiting)) }

// lasting estimates how long so many items will take. b.mu is held.
func (b *Batcher[In, Out]) lasting(items int) time.Duration {
	return time.Duration(items) * b.perItem / time.Duration(b.opts.Workers)
}

// giveUp withdraws a job that has waited for too long, unless its first item
// has started meanwhile.
func (b *Batcher[In, Out]) giveUp(j *job[In, Out]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !j.started.IsZero() || j.isFinished() {
		return nil
	}
	b.withdraw(j)
	return &OverloadedError{Reason: "waited " + b.opts.QueueWait.String(), RetryAfter: b.backlog()}
}

func (b *Batcher[In, Out]) leave(j *job[In, Out]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withdraw(j)
}

// withdraw takes the job's items out of the queue and out of the batches that
// are under way. b.mu is held.
func (b *Batcher[In, Out]) withdraw(j *job[In, Out]) {
	j.left = true
	kept := b.waiting[:0]
	for _, it := range b.waiting {
		if it.job != j {
			kept = append(kept, it)
		}
	}
	clear(b.waiting[len(kept):])
	b.waiting = kept
	for r := range j.batches {
		if r.jobs--; r.jobs == 0 {
			r.cancel()
		}
	}
	clear(j.batches)
}

func (b *Batcher[In, Out]) result(j *job[In, Out]) ([]Out, Stats, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j.err != nil {
		b.withdraw(j)
		return nil, j.stats(), j.err
	}
	return j.out, j.stats(), nil
}

func (b *Batcher[In, Out]) stats(j *job[In, Out]) Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return j.stats()
}
