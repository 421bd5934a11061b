package simnode

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// took submits jobs of the given work at the same time and returns when each
// was done.
func took(e *engine, work ...time.Duration) []time.Duration {
	begin := time.Now()
	jobs := make([]*job, len(work))
	for i, w := range work {
		jobs[i] = e.submit(w)
	}
	done := make([]time.Duration, len(jobs))
	for i, j := range jobs {
		<-j.done
		done[i] = time.Since(begin)
	}
	return done
}

func near(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond }

const unit = 20 * time.Millisecond

func TestWorkTakesItsTime(t *testing.T) {
	for _, test := range []struct {
		name            string
		discipline      Discipline
		slowdown, share float64
		n               int
		want            []time.Duration
	}{
		{"two slots", FIFO, 1, 0, 2, []time.Duration{unit, unit}},
		{"others wait in order", FIFO, 1, 0, 5, []time.Duration{unit, unit, 2 * unit, 2 * unit, 3 * unit}},
		{"a slow node", FIFO, 4, 0, 1, []time.Duration{4 * unit}},
		{"a co-tenant of 75 %", FIFO, 1, 0.75, 3, []time.Duration{4 * unit, 4 * unit, 8 * unit}},
		{"all at once", ProcessorSharing, 1, 0, 4, []time.Duration{2 * unit, 2 * unit, 2 * unit, 2 * unit}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEngine(test.discipline, 2)
				e.set(test.slowdown, test.share)
				work := make([]time.Duration, test.n)
				for i := range work {
					work[i] = unit
				}
				for i, got := range took(e, work...) {
					if !near(got, test.want[i]) {
						t.Errorf("request %d took %v, want %v", i, got, test.want[i])
					}
				}
			})
		})
	}
}

func TestChangeOfSpeedReachesWorkUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(FIFO, 1)
		begin := time.Now()
		j := e.submit(100 * time.Millisecond)
		time.Sleep(50 * time.Millisecond)
		e.set(1, 0.5)
		<-j.done
		if got := time.Since(begin); !near(got, 150*time.Millisecond) {
			t.Errorf("half at full speed and half at half took %v of 150 ms", got)
		}
	})
}

// The figure is what nvidia-smi shows: how long anything ran, not how much of
// the GPU it used.
func TestUtilizationIsTheTimeWithOwnOrForeignWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(FIFO, 2)
		check := func(what string, want float64) {
			t.Helper()
			if _, _, got := e.load(); math.Abs(got-want) > 0.001 {
				t.Errorf("%s: %.3f, want %.3f", what, got, want)
			}
		}
		check("idle", 0)
		e.submit(200 * time.Millisecond)
		time.Sleep(500 * time.Millisecond)
		check("one request of 200 ms within a second", 0.2)
		e.submit(100 * time.Millisecond)
		e.submit(100 * time.Millisecond)
		time.Sleep(300 * time.Millisecond)
		check("two more, at the same time, for 100 ms", 0.3)
		time.Sleep(2 * time.Second)
		check("long idle", 0)
		e.set(1, 0.8)
		time.Sleep(2 * time.Second)
		check("a co-tenant of 80 %", 0.8)
		e.submit(100 * time.Millisecond) // takes 500 ms beside it
		time.Sleep(time.Second)
		check("own work for half the second, and the co-tenant", 0.5+0.5*0.8)
	})
}

func TestLateTimersCostNoCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(FIFO, 1)
		for range 10 {
			e.submit(unit)
		}
		e.timer.Stop() // it would fire at 20 ms
		time.Sleep(190 * time.Millisecond)
		if running, waiting, _ := e.load(); running != 1 || waiting != 0 {
			t.Errorf("after 190 ms of 200: %d running, %d waiting", running, waiting)
		}
	})
}
