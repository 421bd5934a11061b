package batch

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// The workers' side of a Batcher: which of the waiting items make a batch, and
// what becomes of it.

// work is the life of one worker.
func (b *Batcher[In, Out]) work() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free++
	for {
		batch := b.take()
		if batch == nil {
			return
		}
		b.free--
		r, ctx := b.start(batch)
		b.mu.Unlock()

		begin := time.Now()
		outs, err := b.safely(ctx, batch)
		spent := time.Since(begin)
		r.cancel()

		b.mu.Lock()
		b.free++
		b.finish(batch, r, outs, err)
		const keep = 0.8 // of the old average
		each := spent / time.Duration(len(batch))
		if b.perItem == 0 {
			b.perItem = each
		}
		b.perItem = time.Duration(keep*float64(b.perItem) + (1-keep)*float64(each))
	}
}

// take waits for a batch and removes it from the queue; nil means closed.
// b.mu is held.
func (b *Batcher[In, Out]) take() []item[In, Out] {
	for {
		switch {
		case b.closed:
			return nil
		case len(b.waiting) == 0:
			b.wake.Wait()
			continue
		}
		// The items that came back last time are likely to come again.
		if missing := min(b.company, b.opts.Size) - len(b.waiting); missing > 0 {
			if left := time.Until(b.waiting[0].job.queued.Add(b.opts.Wait)); left > 0 {
				timer := time.AfterFunc(left, func() {
					b.mu.Lock()
					defer b.mu.Unlock()
					b.wake.Broadcast()
				})
				b.wake.Wait()
				timer.Stop()
				continue
			}
		}
		n := (len(b.waiting) + b.free - 1) / b.free // an equal share for every free worker
		n = min(n, b.opts.Size)
		batch := make([]item[In, Out], 0, n)
		taken := 0
		for ; taken < len(b.waiting) && len(batch) < n; taken++ {
			if it := b.waiting[taken]; it.job.ctx.Err() == nil { // else its DoIn is about to leave
				batch = append(batch, it)
			}
		}
		rest := copy(b.waiting, b.waiting[taken:])
		clear(b.waiting[rest:])
		b.waiting = b.waiting[:rest]
		if len(batch) == 0 {
			continue
		}
		b.company = len(batch)
		return batch
	}
}

// start marks the jobs of a batch as started. b.mu is held.
func (b *Batcher[In, Out]) start(batch []item[In, Out]) (*running[In, Out], context.Context) {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:gosec // work calls cancel, by way of running
	r := &running[In, Out]{cancel: cancel}
	now := time.Now()
	for _, it := range batch {
		j := it.job
		if j.started.IsZero() {
			b.queued--
			j.started = now
			close(j.first)
		}
		j.batchSize = max(j.batchSize, len(batch))
		if _, known := j.batches[r]; !known {
			j.batches[r] = struct{}{}
			r.jobs++
		}
	}
	return r, ctx
}

// safely runs the function and turns its panics and its wrong answers into
// errors: a bug in an engine must cost the requests of one batch, no more.
func (b *Batcher[In, Out]) safely(ctx context.Context, batch []item[In, Out]) (outs []Out, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	ins := make([]In, len(batch))
	for i, it := range batch {
		ins[i] = it.in
	}
	outs, err = b.run(ctx, ins)
	if err == nil && len(outs) != len(ins) {
		err = fmt.Errorf("running a batch of %d: got %d results", len(ins), len(outs))
	}
	return outs, err
}

// finish gives results to the jobs that still wait. b.mu is held.
func (b *Batcher[In, Out]) finish(batch []item[In, Out], r *running[In, Out], outs []Out, err error) {
	for i, it := range batch {
		j := it.job
		delete(j.batches, r)
		if j.left || j.isFinished() {
			continue
		}
		if err != nil {
			j.fail(err)
			continue
		}
		j.out[it.index] = outs[i]
		if j.remaining--; j.remaining == 0 {
			close(j.finished)
		}
	}
}
