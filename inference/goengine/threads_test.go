package goengine

import (
	"runtime"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func TestPassesShareTheProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	if n := passes.Load(); n != 0 {
		t.Fatalf("%d passes are said to be under way", n)
	}
	for _, c := range []struct {
		threads    threads
		under, now int
	}{{0, 0, 8}, {0, 1, 8}, {0, 2, 4}, {0, 3, 2}, {0, 5, 1}, {0, 8, 1}, {0, 100, 1}, {3, 1, 3}, {3, 100, 3}} {
		passes.Store(int64(c.under))
		if got := c.threads.now(); got != c.now {
			t.Errorf("threads %d, %d passes under way: %d goroutines, want %d", c.threads, c.under, got, c.now)
		}
	}
	passes.Store(0)
}

// The number of goroutines may change within a pass: it must not change an answer.
func TestAnswersDoNotDependOnThreads(t *testing.T) {
	path := randomBERT(t, 96, 2, 4, 1024, 50)
	dir, err := modeldir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int32, 256)
	for i := range ids {
		ids[i] = int32(i * 7 % 50)
	}
	batch := []engine.Sequence{{IDs: ids}, {IDs: ids[:31]}}
	for _, precision := range []engine.Precision{engine.FP32, engine.INT8} {
		var first []engine.Logits
		for _, n := range []int{1, 0, 2, 5} {
			e, err := engine.Open("go", dir, engine.Options{Threads: n, Precision: precision})
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Run(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if passes.Load() != 0 {
				t.Errorf("%d passes are said to be under way", passes.Load())
			}
			if first == nil {
				first = got
			}
			for i := range got {
				for j, v := range got[i].Data {
					if v != first[i].Data[j] {
						t.Fatalf("%s, %d threads: sequence %d, logit %d: %g, with one thread %g", precision, n, i, j, v, first[i].Data[j])
					}
				}
			}
		}
	}
}
