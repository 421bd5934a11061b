package sharedcache

import (
	"context"
	"sync"
)

// flight is a request under way, and those who wait for its answer. It goes on
// as long as anybody is there.
type flight struct {
	ctx    context.Context // the request's
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	finished  bool
	made      *answer // nil: each must ask for itself
	firstGone bool
	followers int
}

// newFlight makes a flight whose context has the values of the first client's
// request.
func newFlight(ctx context.Context) *flight {
	f := &flight{done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return f
}

// join adds a follower, unless everybody has left.
func (f *flight) join() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil && !f.finished {
		return false
	}
	f.followers++
	return true
}

// wait returns the answer to a follower, or nil if there is none for it.
func (f *flight) wait(ctx context.Context) *answer {
	select {
	case <-f.done:
		return f.made
	case <-ctx.Done():
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers--
	f.endIfDeserted()
	return nil
}

// firstLeft says that the first client has gone.
func (f *flight) firstLeft() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.firstGone = true
	f.endIfDeserted()
}

// finish gives the followers the answer, or sends them their own ways. Only the
// first call counts; the first client may still be getting its own answer.
func (f *flight) finish(a *answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.finished {
		return
	}
	f.finished, f.made = true, a
	close(f.done)
	f.followers = 0
	f.endIfDeserted()
}

// endIfDeserted is called with the lock held.
func (f *flight) endIfDeserted() {
	if f.firstGone && f.followers <= 0 {
		f.cancel()
	}
}
