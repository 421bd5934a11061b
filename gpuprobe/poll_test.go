package gpuprobe

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a source that counts.
type fake struct {
	reads, closed, under atomic.Int64
	fail, hang, panics   atomic.Bool
}

func (f *fake) Read(ctx context.Context) (Sample, error) {
	if f.under.Add(1) > 1 {
		panic("two reads at the same time")
	}
	defer f.under.Add(-1)
	n := f.reads.Add(1)
	switch {
	case f.panics.Load():
		panic("a fault")
	case f.hang.Load():
		<-ctx.Done()
		return Sample{}, ctx.Err()
	case f.fail.Load():
		return Sample{}, errors.New("down")
	}
	return Sample{MeasuredAt: time.Now(), Queue: Some(float64(n))}, nil
}

func (f *fake) Close() error { f.closed.Add(1); return nil }

func fakePool() (*pool, *fake) {
	f := &fake{}
	return &pool{open: func(Config) (Source, error) { return f, nil }, pollers: map[string]*poller{}}, f
}

func mustWatch(t *testing.T, p *pool, c Config, interval time.Duration, f func(Reading)) *Watch {
	t.Helper()
	w, err := p.watch(c, interval, f)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestOnePollerServesAllWatchesAndEndsWithTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := fakePool()
		calls := 0
		slow := mustWatch(t, p, Config{Kind: "x", Mapping: map[string]string{"a": "1", "b": "2"}}, 10*time.Second, nil)
		if r := slow.Latest(); r.Samples != 0 || !r.TriedAt.IsZero() {
			t.Errorf("before the first reading: %+v", r)
		}
		time.Sleep(time.Second)
		fast := mustWatch(t, p, Config{Kind: "x", Mapping: map[string]string{"b": "2", "a": "1"}}, time.Second, func(Reading) { calls++ })
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if n := f.reads.Load(); n < 90 || n > 115 {
			t.Errorf("%d readings in 100 s, each second wanted", n)
		}
		if r := slow.Latest(); r.Sample.Queue.Or(0) != float64(f.reads.Load()) || r.Samples != uint64(f.reads.Load()) {
			t.Errorf("the slow watch sees %+v after %d", r, f.reads.Load())
		}
		if calls < 90 {
			t.Errorf("%d calls", calls)
		}
		fast.Close()
		fast.Close()
		before := f.reads.Load()
		time.Sleep(100 * time.Second)
		synctest.Wait()
		if n := f.reads.Load() - before; n < 8 || n > 13 {
			t.Errorf("%d readings in 100 s, each 10 s wanted", n)
		}
		slow.Close()
		before = f.reads.Load()
		time.Sleep(time.Minute)
		if f.reads.Load() != before || f.closed.Load() != 1 || len(p.pollers) != 0 {
			t.Errorf("after the last watch: %d readings, closed %d times, %d pollers", f.reads.Load()-before, f.closed.Load(), len(p.pollers))
		}
	})
}

func TestANodeThatIsDownIsAskedEverLessAndItsLastSampleKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := fakePool()
		w := mustWatch(t, p, Config{}, time.Second, nil)
		time.Sleep(10 * time.Second)
		f.fail.Store(true)
		before := f.reads.Load()
		time.Sleep(10 * time.Minute)
		// 2+4+8+16 s, then each 30 s.
		if n := f.reads.Load() - before; n < 20 || n > 30 {
			t.Errorf("%d tries in ten minutes", n)
		}
		r := w.Latest()
		if r.Err == nil || r.Failures < 20 || !r.Sample.Queue.Known() || time.Since(r.Sample.MeasuredAt) < 9*time.Minute {
			t.Errorf("%+v", r)
		}
		f.fail.Store(false)
		time.Sleep(40 * time.Second)
		if r = w.Latest(); r.Err != nil || r.Failures != 0 || time.Since(r.Sample.MeasuredAt) > 2*time.Second {
			t.Errorf("after its return: %+v", r)
		}
		w.Close()
	})
}

func TestReadersNeverWaitForANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := fakePool()
		f.hang.Store(true)
		w := mustWatch(t, p, Config{}, time.Second, nil)
		time.Sleep(500 * time.Millisecond)
		start := time.Now()
		w.Latest()
		mustWatch(t, p, Config{}, time.Second, nil).Close()
		if time.Since(start) != 0 {
			t.Error("they waited")
		}
		time.Sleep(time.Second)
		if r := w.Latest(); !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%+v", r)
		}
		f.hang.Store(false)
		f.panics.Store(true)
		time.Sleep(time.Minute)
		if r := w.Latest(); r.Err == nil || r.Failures < 3 {
			t.Errorf("a fault in a source: %+v", r)
		}
		f.panics.Store(false)
		f.hang.Store(true)
		time.Sleep(time.Minute)
		w.Close()
		synctest.Wait()
		if f.closed.Load() != 1 {
			t.Error("closing waits for a node that hangs")
		}
	})
}

func TestNodesAreNotAskedInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := fakePool()
		p.open = func(Config) (Source, error) { return &fake{}, nil }
		at := map[time.Duration]int{}
		start := time.Now()
		var watches []*Watch
		for i := range 50 {
			watches = append(watches, mustWatch(t, p, Config{Address: string(rune('a' + i))}, time.Second, nil))
		}
		time.Sleep(30 * time.Second)
		for _, w := range watches {
			at[w.Latest().TriedAt.Sub(start).Truncate(10*time.Millisecond)]++
			w.Close()
		}
		for when, n := range at {
			if n > 12 {
				t.Errorf("%d of 50 at %v", n, when)
			}
		}
	})
}

func TestAWatchOfABadConfigurationFails(t *testing.T) {
	if _, err := NewWatch(Config{Kind: "dcgm"}, time.Second, nil); err == nil {
		t.Error("no error")
	}
}

func TestReportsFindTheirNodeAtOnceHoweverLateTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Kind: "push", Address: "10.0.0.1:8081"}
		w, err := NewWatch(c, time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if r := w.Latest(); !errors.Is(r.Err, ErrNoReport) || r.Failures != 0 {
			t.Errorf("%+v", r)
		}
		if err := Push("10.0.0.2:8081", []byte(`{"queue":3}`), time.Now()); !errors.Is(err, ErrNotAwaited) {
			t.Errorf("a stranger: %v", err)
		}
		if err := Push(c.Address, []byte(`{}`), time.Now()); err == nil {
			t.Error("no error for an empty report")
		}
		if err := Push(c.Address, []byte(`{"queue":3}`), time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1200 * time.Millisecond)
		if r := w.Latest(); r.Err != nil || r.Sample.Queue != some(3.) {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
		if r := w.Latest(); r.Samples != 1 || time.Since(r.Sample.MeasuredAt) < time.Minute {
			t.Errorf("one report, read again and again: %+v", r)
		}
		w.Close()
		synctest.Wait()
		if err := Push(c.Address, []byte(`{"queue":3}`), time.Now()); !errors.Is(err, ErrNotAwaited) {
			t.Errorf("after the last watch: %v", err)
		}
	})
}

func TestWatchesComeAndGoFromManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := fakePool()
		var users sync.WaitGroup
		for i := range 8 {
			users.Go(func() {
				for n := range 50 {
					w, err := p.watch(Config{}, time.Duration(1+i)*time.Second, func(Reading) {})
					if err != nil {
						t.Error(err)
						return
					}
					w.Latest()
					time.Sleep(time.Duration(n*i) * time.Millisecond)
					w.Close()
				}
			})
		}
		users.Wait()
		synctest.Wait()
		if len(p.pollers) != 0 || f.closed.Load() == 0 {
			t.Errorf("%d pollers are left, %d ended", len(p.pollers), f.closed.Load())
		}
	})
}
