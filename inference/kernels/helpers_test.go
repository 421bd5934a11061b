package kernels

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many passes share helpers; each of their steps is done once, and no step
// goes on after Parallel has returned.
func TestHelpersServeAllPasses(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for step := range 300 {
				n := step%23 + 1
				calls := make([]int, n) // the race detector sees late ones
				Parallel(n, step%5+1, func(i int) {
					calls[i]++
					if step%50 == 0 { // steps within steps
						var inner atomic.Int64
						Parallel(3, 2, func(int) { inner.Add(1) })
						if inner.Load() != 3 {
							t.Errorf("%d of 3 inner calls", inner.Load())
						}
					}
				})
				for i, c := range calls {
					if c != 1 {
						t.Errorf("step %d of %d calls: call %d was made %d times", step, n, i, c)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestHelpersEndWhenThereIsNothingToDo(t *testing.T) {
	var met sync.WaitGroup
	met.Add(4)
	Parallel(4, 4, func(int) { met.Done(); met.Wait() }) // four goroutines, or this hangs
	idle := func() int {
		helpers.Lock()
		defer helpers.Unlock()
		return len(helpers.idle)
	}
	stacks := make([]byte, 1<<20)
	running := func() bool {
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("(*helper).run"))
	}
	for deadline := time.Now().Add(time.Minute); idle() > 0 || running(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d helpers are idle, running: %v", idle(), running())
		}
	}
}

// BenchmarkParallel is what it costs to share a step that is no work.
func BenchmarkParallel(b *testing.B) {
	for b.Loop() {
		Parallel(2, 2, func(int) {})
	}
}
