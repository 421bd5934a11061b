package batch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var defaults = Options{Workers: 1, Size: 4, Wait: 2 * time.Millisecond, QueueLength: 8, QueueWait: time.Second}

// slowly returns a function that takes d per batch, records the batch sizes,
// and answers each item with its double.
func slowly(d time.Duration) (Func[int, int], func() []int) {
	var mu sync.Mutex
	var sizes []int
	run := func(ctx context.Context, items []int) ([]int, error) {
		mu.Lock()
		sizes = append(sizes, len(items))
		mu.Unlock()
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		out := make([]int, len(items))
		for i, v := range items {
			out[i] = 2 * v
		}
		return out, nil
	}
	return run, func() []int {
		mu.Lock()
		defer mu.Unlock()
		return append([]int(nil), sizes...)
	}
}

func TestLoneRequestDoesNotWaitForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(10 * time.Millisecond)
		b := New(defaults, run)
		defer b.Close()
		for i := range 3 {
			begin := time.Now()
			out, _, err := b.Do(t.Context(), []int{i})
			if err != nil || out[0] != 2*i {
				t.Fatalf("got %v, %v", out, err)
			}
			if d := time.Since(begin); d != 10*time.Millisecond {
				t.Errorf("request %d took %v, want the run alone: 10ms", i, d)
			}
		}
	})
}

func TestRequestsThatWaitTogetherRunTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, sizes := slowly(10 * time.Millisecond)
		b := New(defaults, run)
		defer b.Close()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				out, stats, err := b.Do(t.Context(), []int{i})
				if err != nil || out[0] != 2*i {
					t.Errorf("request %d: got %v, %v", i, out, err)
				}
				if i > 0 && stats.BatchSize != 4 {
					t.Errorf("request %d ran in a batch of %d, want 4", i, stats.BatchSize)
				}
			})
			synctest.Wait() // the first is running when the others come
		}
		wg.Wait()
		if got := sizes(); len(got) != 2 || got[0] != 1 || got[1] != 4 {
			t.Errorf("batches of %v, want [1 4]", got)
		}
	})
}

func TestFreeWorkersShareWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, sizes := slowly(10 * time.Millisecond)
		opts := defaults
		opts.Workers = 2
		b := New(opts, run)
		defer b.Close()
		synctest.Wait()
		if _, _, err := b.Do(t.Context(), []int{1, 2, 3, 4}); err != nil {
			t.Fatal(err)
		}
		if got := sizes(); len(got) != 2 || got[0] != 2 || got[1] != 2 {
			t.Errorf("batches of %v, want [2 2]", got)
		}
	})
}

func TestCompanyIsAwaitedForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(10 * time.Millisecond)
		b := New(defaults, run)
		defer b.Close()
		if _, _, err := b.Do(t.Context(), []int{1, 2, 3}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, _, err := b.Do(t.Context(), []int{1}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begin); d != 12*time.Millisecond {
			t.Errorf("took %v, want the wait of 2ms and the run of 10ms", d)
		}
	})
}

func TestFullQueueRefusesAtOnceWithAnEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(100 * time.Millisecond)
		opts := defaults
		opts.Size, opts.QueueLength, opts.QueueWait = 1, 3, time.Minute
		b := New(opts, run)
		defer b.Close()
		if _, _, err := b.Do(t.Context(), []int{0}); err != nil { // learns 100 ms per item
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 { // one runs, three wait
			wg.Go(func() {
				if _, _, err := b.Do(t.Context(), []int{i}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		begin := time.Now()
		_, _, err := b.Do(t.Context(), []int{9})
		var overloaded *OverloadedError
		if !errors.As(err, &overloaded) {
			t.Fatalf("got %v, want an OverloadedError", err)
		}
		if time.Since(begin) != 0 {
			t.Error("the refusal took time")
		}
		if overloaded.RetryAfter != 300*time.Millisecond {
			t.Errorf("retry after %v, want 300ms: three items of 100ms", overloaded.RetryAfter)
		}
		wg.Wait()
	})
}

func TestPatienceEndsWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, sizes := slowly(5 * time.Second)
		b := New(defaults, run)
		defer b.Close()
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = b.Do(t.Context(), []int{1}) })
		synctest.Wait()
		begin := time.Now()
		_, _, err := b.Do(t.Context(), []int{2})
		var overloaded *OverloadedError
		if !errors.As(err, &overloaded) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want an OverloadedError after 1s", err, time.Since(begin))
		}
		if n := b.Waiting(); n != 0 {
			t.Errorf("%d items still wait", n)
		}
		wg.Wait()
		if got := sizes(); len(got) != 1 {
			t.Errorf("the request that had left was run: batches %v", got)
		}
	})
}

func TestRequestOfManyItemsMayOutlastThePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(time.Second)
		b := New(defaults, run)
		defer b.Close()
		items := make([]int, 40) // ten batches of a second, more than the queue holds
		out, stats, err := b.Do(t.Context(), items)
		if err != nil || len(out) != 40 || stats.Run != 10*time.Second {
			t.Errorf("got %d results, ran %v, %v", len(out), stats.Run, err)
		}
	})
}

func TestCancelledRequestLeavesItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun, ended atomic.Int32
		run := func(ctx context.Context, items []int) ([]int, error) {
			begun.Add(1)
			select {
			case <-time.After(time.Hour):
				return items, nil
			case <-ctx.Done():
				ended.Add(1)
				return nil, ctx.Err()
			}
		}
		b := New(defaults, run)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := b.Do(ctx, []int{1}); !errors.Is(err, context.Canceled) {
					t.Errorf("got %v, want context.Canceled", err)
				}
			})
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		synctest.Wait()
		// Whoever waited may have got the worker before it left in its turn.
		if n := begun.Load() - ended.Load(); n != 0 || ended.Load() == 0 {
			t.Errorf("%d batches that everybody has left run on", n)
		}
		if n := b.Waiting(); n != 0 {
			t.Errorf("%d items of cancelled requests still wait", n)
		}
		b.Close()
	})
}

func TestOneCancelledRequestDoesNotEndTheBatchOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(10 * time.Millisecond)
		b := New(defaults, run)
		defer b.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _, _, _ = b.Do(t.Context(), []int{0}) }) // occupies the worker
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := b.Do(ctx, []int{1}); !errors.Is(err, context.Canceled) {
				t.Errorf("the cancelled request: %v", err)
			}
		})
		wg.Go(func() {
			if out, _, err := b.Do(t.Context(), []int{2}); err != nil || out[0] != 4 {
				t.Errorf("its companion: %v, %v", out, err)
			}
		})
		time.Sleep(15 * time.Millisecond) // the two run together now
		cancel()
		wg.Wait()
	})
}

func TestPanicBecomesAnErrorOfItsBatchOnly(t *testing.T) {
	b := New(defaults, func(_ context.Context, items []int) ([]int, error) {
		if items[0] == 13 {
			panic("thirteen")
		}
		return items, nil
	})
	defer b.Close()
	_, _, err := b.Do(t.Context(), []int{13})
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "thirteen" || len(p.Stack) == 0 {
		t.Fatalf("got %v, want the panic with its stack", err)
	}
	if _, _, err := b.Do(t.Context(), []int{1}); err != nil {
		t.Errorf("the next request: %v", err)
	}
}

func TestMissingResultsAreAnError(t *testing.T) {
	b := New(defaults, func(_ context.Context, items []int) ([]int, error) { return nil, nil })
	defer b.Close()
	if _, _, err := b.Do(t.Context(), []int{1}); err == nil {
		t.Error("no error")
	}
}

func TestCloseFailsTheWaitingAndRefusesTheNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(time.Second)
		b := New(defaults, run)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := b.Do(t.Context(), []int{1}); err != nil {
				t.Errorf("the running request: %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, _, err := b.Do(t.Context(), []int{2}); !errors.Is(err, ErrClosed) {
				t.Errorf("the waiting request: %v, want ErrClosed", err)
			}
		})
		synctest.Wait()
		b.Close()
		wg.Wait()
		if _, _, err := b.Do(t.Context(), []int{3}); !errors.Is(err, ErrClosed) {
			t.Errorf("a new request: %v, want ErrClosed", err)
		}
	})
}

// Every request gets its own answer or an error, whatever the mix of sizes,
// cancellations, panics and patience.
func TestStress(t *testing.T) {
	opts := Options{Workers: 3, Size: 5, Wait: 50 * time.Microsecond, QueueLength: 20, QueueWait: 5 * time.Millisecond}
	b := New(opts, func(ctx context.Context, items []int) ([]int, error) {
		out := make([]int, len(items))
		for i, v := range items {
			if v%97 == 0 {
				panic(v)
			}
			out[i] = v + 1
		}
		time.Sleep(time.Duration(len(items)) * 20 * time.Microsecond)
		return out, ctx.Err()
	})
	var good, bad atomic.Int32
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range 200 {
				items := make([]int, 1+rng.IntN(8))
				for i := range items {
					items[i] = rng.IntN(1000)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(5000))*time.Microsecond)
				out, _, err := b.Do(ctx, items)
				cancel()
				if err != nil {
					bad.Add(1)
					continue
				}
				good.Add(1)
				for i := range items {
					if out[i] != items[i]+1 {
						t.Errorf("item %d answered with %d", items[i], out[i])
					}
				}
			}
		})
	}
	wg.Wait()
	b.Close()
	if n := b.Waiting(); n != 0 {
		t.Errorf("%d items left waiting", n)
	}
	if good.Load() == 0 || bad.Load() == 0 {
		t.Errorf("%d good and %d bad requests: the test exercises only one side", good.Load(), bad.Load())
	}
}

func BenchmarkDo(b *testing.B) {
	batcher := New(Options{Workers: 2, Size: 32, QueueLength: 512, QueueWait: time.Second},
		func(_ context.Context, items []int) ([]int, error) { return items, nil })
	defer batcher.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := batcher.Do(b.Context(), []int{1}); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestLoadCountsCallsUnderWayAndThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		run, _ := slowly(10 * time.Millisecond)
		b := New(Options{Workers: 1, Size: 1, QueueLength: 8, QueueWait: 15 * time.Millisecond}, run)
		defer b.Close()
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for i, ctx := range []context.Context{t.Context(), t.Context(), ctx, t.Context()} {
			calls.Go(func() { _, _, _ = b.Do(ctx, []int{i, i}) })
			synctest.Wait()
		}
		if l := b.Load(); l != (Load{InFlight: 4, Queued: 3}) {
			t.Errorf("with one call running and three waiting: %+v", l)
		}
		cancel()
		synctest.Wait()
		if l := b.Load(); l != (Load{InFlight: 3, Queued: 2}) {
			t.Errorf("after one has left: %+v", l)
		}
		calls.Wait() // the others end: one runs, two have waited for too long
		if l := b.Load(); l != (Load{}) {
			t.Errorf("when all have returned: %+v", l)
		}
		if _, _, err := b.Do(ctx, []int{1}); err == nil || b.Load() != (Load{}) {
			t.Errorf("a call that never began: %v, %+v", err, b.Load())
		}
	})
}
