package batch

import (
	"context"
	"time"
)

// job is one call of Do.
type job[In, Out any] struct {
	ctx       context.Context // of its Do
	out       []Out
	queued    time.Time
	turn      time.Time // as if it had come then, compared with others
	started   time.Time // zero until the first item starts
	remaining int
	batchSize int
	err       error
	left      bool // nobody waits any more
	batches   map[*running[In, Out]]struct{}
	finished  chan struct{} // closed when remaining is 0 or err is set
	first     chan struct{} // closed when started is set
}

type item[In, Out any] struct {
	in    In
	index int
	job   *job[In, Out]
}

// running is a batch under way: cancel ends it when the last job has left.
type running[In, Out any] struct {
	jobs   int
	cancel context.CancelFunc
}

func (j *job[In, Out]) fail(err error) {
	if !j.isFinished() {
		j.err = err
		close(j.finished)
	}
}

func (j *job[In, Out]) isFinished() bool {
	select {
	case <-j.finished:
		return true
	default:
		return false
	}
}

func (j *job[In, Out]) stats() Stats {
	now := time.Now()
	if j.started.IsZero() {
		return Stats{Queue: now.Sub(j.queued)}
	}
	return Stats{Queue: j.started.Sub(j.queued), Run: now.Sub(j.started), BatchSize: j.batchSize}
}
