package balance

import (
	"testing"
	"time"
)

// keepFull keeps a limit full at a node with a number of workers that take
// exactly service each, and returns how many answers there were.
func keepFull(l *Limit, from, to, service time.Duration, workers int, verdict func(i int) Verdict) (answers int) {
	type request struct {
		began, ends time.Duration
		inFlight    int
	}
	var flying []request
	free := make([]time.Duration, workers) // when each worker is
	for now := from; now < to; {
		for len(flying) < l.Now() {
			w := 0
			for i := range free {
				if free[i] < free[w] {
					w = i
				}
			}
			free[w] = max(free[w], now) + service
			flying = append(flying, request{now, free[w], len(flying) + 1})
		}
		first := 0
		for i := range flying {
			if flying[i].ends < flying[first].ends {
				first = i
			}
		}
		r := flying[first]
		flying = append(flying[:first], flying[first+1:]...)
		now = max(now, r.ends)
		l.Done(now, r.began, r.inFlight, verdict(answers))
		answers++
	}
	return answers
}

func well(int) Verdict { return Served }

func TestLimitStartsSafeAndStaysInBounds(t *testing.T) {
	l := NewLimit(0)
	if l.Now() != limitStart {
		t.Errorf("starts at %d", l.Now())
	}
	for now := sec; now < 20*sec; now += 10 * ms / time.Duration(l.Now()) {
		l.Done(now, now-10*ms, l.Now(), Served) // whatever the limit
	}
	if l.Now() < MaxLimit*3/4 || l.Now() > MaxLimit {
		t.Errorf("limit %d for a node without end", l.Now())
	}
	keepFull(l, 20*sec, 60*sec, ms, 1, well)
	if l.Now() < 1 || l.Now() > 4 {
		t.Errorf("limit %d for a node that works on one request at a time", l.Now())
	}
}

func TestBusyNodeIsBelieved(t *testing.T) {
	l := NewLimit(0)
	keepFull(l, sec, 10*sec, 10*ms, 32, well)
	before := l.Now()
	keepFull(l, 10*sec, 12*sec, 10*ms, 32, func(i int) Verdict {
		if i%10 == 0 {
			return Busy
		}
		return Served
	})
	if l.Now() > before/2 {
		t.Errorf("limit %d after the node said for 2 s that it has no room, before %d", l.Now(), before)
	}
	for range 1000 {
		l.Done(12*sec, 12*sec-ms, 1, Busy)
	}
	if l.Now() < 1 {
		t.Errorf("limit %d", l.Now())
	}
}

// A node that fails fast has a splendid throughput.
func TestFailuresAreNoThroughput(t *testing.T) {
	l := NewLimit(0)
	keepFull(l, sec, 10*sec, 10*ms, 4, well)
	before := l.Now()
	keepFull(l, 10*sec, 20*sec, 100*time.Microsecond, 1000, func(int) Verdict { return Failed })
	if after := l.Now(); after > 2*before {
		t.Errorf("limit %d after failures, %d before", after, before)
	}
}

func TestLimitUpdateAllocatesNothing(t *testing.T) {
	l := NewLimit(0)
	now := sec
	if n := testing.AllocsPerRun(10000, func() {
		now += 100 * time.Microsecond
		l.Done(now, now-ms, l.Now(), Served)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzLimit feeds what no node answers.
func FuzzLimit(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 250, 251, 252, 253})
	f.Fuzz(func(t *testing.T, ops []byte) {
		l := NewLimit(time.Duration(len(ops)) * time.Hour)
		now := time.Duration(1)
		for i, op := range ops {
			now += time.Duration(op&15) << (op >> 3)
			began := now - time.Duration(op)<<(i%30)
			l.Done(now, began, int(op), Verdict(i%4))
			if l.Now() < 1 || l.Now() > MaxLimit {
				t.Fatalf("limit %d", l.Now())
			}
			if !(l.knee >= 1 && l.knee <= MaxLimit) {
				t.Fatalf("knee %v", l.knee)
			}
		}
	})
}

func BenchmarkLimit(b *testing.B) {
	l := NewLimit(0)
	now := sec
	b.ReportAllocs()
	for b.Loop() {
		now += 50 * time.Microsecond
		l.Done(now, now-time.Millisecond, l.Now(), Served)
	}
}
