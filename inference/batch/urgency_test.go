package batch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// onebyone takes a second for each item and notes their order.
func onebyone(length int) (*Batcher[string, string], func() []string) {
	var mu sync.Mutex
	var ran []string
	b := New(Options{Workers: 1, Size: 1, QueueLength: length, QueueWait: time.Hour}, func(_ context.Context, items []string) ([]string, error) {
		mu.Lock()
		ran = append(ran, items...)
		mu.Unlock()
		time.Sleep(time.Second)
		return items, nil
	})
	return b, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ran)
	}
}

func TestMoreUrgentRequestsHaveAHeadStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ran := onebyone(100)
		defer b.Close()
		var wg sync.WaitGroup
		ask := func(u Urgency, items ...string) {
			wg.Go(func() {
				if out, _, err := b.DoIn(t.Context(), Order{Urgency: u}, items); err != nil || !slices.Equal(out, items) {
					t.Errorf("%v: %v, %v", items, out, err)
				}
			})
			synctest.Wait()
		}
		ask(DefaultUrgency, "running")
		ask(LeastUrgent, "stream 1", "stream 2", "stream 3", "stream 4", "stream 5", "stream 6")
		ask(DefaultUrgency, "usual 1")
		ask(DefaultUrgency, "usual 2")
		ask(MostUrgent, "urgent")
		time.Sleep(4100 * time.Millisecond) // so long a head start has the usual one before the least urgent
		if got, want := ran(), []string{"running", "urgent", "usual 1", "usual 2", "stream 1"}; !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
		ask(DefaultUrgency, "late")
		time.Sleep(2 * time.Second)
		ask(MostUrgent, "later and urgent")
		wg.Wait()
		want := []string{"stream 2", "stream 3", "later and urgent", "stream 4", "stream 5", "stream 6", "late"}
		if got := ran()[5:]; !slices.Equal(got, want) {
			t.Errorf("then %v, want %v: nobody is passed by for ever", got, want)
		}
	})
}

func TestFullQueueLetsTheLeastUrgentGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ran := onebyone(4)
		defer b.Close()
		errs := make(map[string]error)
		var mu sync.Mutex
		var wg sync.WaitGroup
		ask := func(u Urgency, items ...string) {
			wg.Go(func() {
				_, _, err := b.DoIn(t.Context(), Order{Urgency: u}, items)
				mu.Lock()
				errs[items[0]] = err
				mu.Unlock()
			})
			synctest.Wait()
		}
		ask(DefaultUrgency, "running")
		ask(LeastUrgent, "older", "older")
		ask(LeastUrgent, "newer")
		ask(DefaultUrgency, "usual")
		ask(DefaultUrgency, "one", "two", "three", "four") // even without the least urgent there is no room
		ask(DefaultUrgency, "another")                     // instead of "newer"
		ask(LeastUrgent, "too late")
		if load := b.Load(); b.Waiting() != 4 || load.Queued != 3 || load.InFlight != 4 {
			t.Errorf("%d waiting, %+v", b.Waiting(), load)
		}
		ask(MostUrgent, "urgent", "urgent") // instead of "older"
		wg.Wait()
		for _, name := range []string{"newer", "one", "too late", "older"} {
			e, ok := errors.AsType[*OverloadedError](errs[name])
			if !ok || e.RetryAfter < 0 {
				t.Errorf("%s: %v", name, errs[name])
			}
			delete(errs, name)
		}
		for name, err := range errs {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got, want := ran(), []string{"running", "urgent", "urgent", "usual", "another"}; !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
		if load := b.Load(); load != (Load{}) {
			t.Errorf("in the end %+v", load)
		}
	})
}

func TestRequestWithoutEnoughTimeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ran := onebyone(100)
		defer b.Close()
		// How long an item takes is not known before one has run.
		if _, _, err := b.Do(t.Context(), []string{"first"}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 11 { // one runs, ten wait
			wg.Go(func() { _, _, _ = b.Do(t.Context(), []string{"crowd"}) })
		}
		synctest.Wait()
		within := func(d time.Duration, u Urgency, name string) error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			_, _, err := b.DoIn(ctx, Order{Urgency: u}, []string{name})
			return err
		}
		begin := time.Now()
		err := within(9*time.Second, DefaultUrgency, "hopeless")
		e, ok := errors.AsType[*OverloadedError](err)
		if !ok || time.Since(begin) != 0 || e.RetryAfter != 10*time.Second || !strings.Contains(e.Reason, "10 are waiting") {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		// A deadline that an estimate did not foresee ends the wait, and nothing is run.
		if err := within(500*time.Millisecond, MostUrgent, "short"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a deadline before the next turn: %v", err)
		}
		if err := within(9*time.Second, MostUrgent, "urgent"); err != nil {
			t.Errorf("with a head start: %v", err)
		}
		wg.Wait()
		if got := ran(); slices.Contains(got, "hopeless") || slices.Contains(got, "short") || !slices.Contains(got, "urgent") {
			t.Errorf("ran %v", got)
		}
	})
}

// Who waited elsewhere keeps the place that it came for.
func TestTimeOfComingCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ran := onebyone(3)
		defer b.Close()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var refused []string
		ask := func(o Order, items ...string) {
			wg.Go(func() {
				if _, _, err := b.DoIn(t.Context(), o, items); err != nil {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, items[0])
				}
			})
			synctest.Wait()
		}
		came := time.Now()
		time.Sleep(5 * time.Second)
		ask(Order{Urgency: DefaultUrgency}, "running")
		ask(Order{Urgency: DefaultUrgency}, "usual 1")
		ask(Order{Urgency: DefaultUrgency}, "usual 2", "usual 2")
		ask(Order{Urgency: LeastUrgent, Came: came}, "old")                        // instead of "usual 2"
		ask(Order{Urgency: LeastUrgent, Came: came.Add(2 * time.Second)}, "older") // there is room again
		ask(Order{Urgency: LeastUrgent, Came: came.Add(3 * time.Second)}, "full")
		ask(Order{Urgency: DefaultUrgency, Came: came.Add(time.Hour)}, "not from the future")
		wg.Wait()
		if want := []string{"usual 2", "full", "older"}; !slices.Equal(refused, want) {
			t.Errorf("refused %v, want %v", refused, want)
		}
		if got, want := ran(), []string{"running", "old", "usual 1", "not from the future"}; !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
	})
}

// A request that is too large for the queue is taken when it waits alone, and
// so when all others give way to it. One that has begun does not.
func TestLargeUrgentRequestFindsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ran := onebyone(2)
		defer b.Close()
		var wg sync.WaitGroup
		ask := func(u Urgency, want bool, items ...string) {
			wg.Go(func() {
				if _, _, err := b.DoIn(t.Context(), Order{Urgency: u}, items); (err == nil) != want {
					t.Errorf("%v: %v", items, err)
				}
			})
			synctest.Wait()
		}
		ask(DefaultUrgency, true, "begun", "begun")
		ask(DefaultUrgency, false, "waits")
		ask(MostUrgent, false, "u1", "u1", "u1") // "begun" is still there
		time.Sleep(1500 * time.Millisecond)      // now only "waits" does
		ask(MostUrgent, true, "u2", "u2", "u2")
		wg.Wait()
		if got, want := ran(), []string{"begun", "begun", "u2", "u2", "u2"}; !slices.Equal(got, want) {
			t.Errorf("ran %v, want %v", got, want)
		}
	})
}

func TestPatientRequestsWaitAsLongAsTheyLike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Workers: 1, Size: 1, QueueLength: 10, QueueWait: time.Second}, func(_ context.Context, items []string) ([]string, error) {
			time.Sleep(5 * time.Second)
			return items, nil
		})
		defer b.Close()
		var wg sync.WaitGroup
		ask := func(patient, want bool) {
			wg.Go(func() {
				if _, _, err := b.DoIn(t.Context(), Order{Patient: patient}, []string{"x"}); (err == nil) != want {
					t.Errorf("patient %v: %v", patient, err)
				}
			})
			synctest.Wait()
		}
		ask(false, true)
		ask(false, false)
		ask(true, true)
		ask(true, true)
		wg.Wait()
	})
}

// Do may not have noticed yet that its context has ended.
func TestRequestWhoseContextHasEndedIsNotStarted(t *testing.T) {
	b := &Batcher[string, string]{opts: Options{Workers: 1, Size: 2, QueueLength: 10}, free: 1}
	b.wake.L = &b.mu
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"left": ended, "stays": t.Context()} {
		j := &job[string, string]{ctx: ctx}
		b.waiting = append(b.waiting, item[string, string]{in: name, job: j}, item[string, string]{in: name, job: j})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.take()
	if len(batch) != 2 || batch[0].in != "stays" || batch[1].in != "stays" {
		t.Errorf("%v", batch)
	}
}
