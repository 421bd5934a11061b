package balance

import (
	"sync"
	"testing"
	"time"
)

// Several handlers share nodes; their requests' goroutines meet in them.
func TestConcurrentUseLosesNoCount(t *testing.T) {
	all := candidates(5)
	var wg sync.WaitGroup
	for g := range 8 {
		b := New(Options{Breaker: Breaker{Failures: 5}, Seed: uint64(g), OnChange: func(Change) {}})
		wg.Go(func() {
			for i := range 2000 {
				now := sec + time.Duration(i)*5*ms
				a := new(Attempt)
				b.Pick(now, all, a)
				var both sync.WaitGroup // the transport's goroutine, and a cancellation
				both.Go(func() { a.Pause(now); a.Resume(now); a.Answer(now, Verdict(i%4), 0) })
				if i%3 == 0 {
					both.Go(func() { a.End(now) })
				}
				both.Wait()
				a.End(now)
			}
		})
	}
	wg.Wait()
	for i := range all {
		if n := all[i].Node; n.InFlight() != 0 || n.first != nil {
			t.Errorf("node %d is left with %d in flight", i, n.InFlight())
		}
	}
}
