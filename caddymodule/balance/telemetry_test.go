package balance

import (
	"math"
	"testing"
	"time"
)

func report(at time.Duration, s Signal, v float64) Report {
	r := Report{At: at, Interval: sec}
	r.Set(s, v)
	return r
}

func TestReportFadesWithAge(t *testing.T) {
	n := NewNode("a")
	n.Hear(10*sec, report(10*sec, Utilization, 1))
	for age, want := range map[time.Duration]float64{0: 1, 3 * sec: 1, 6500 * ms: 0.5, 10 * sec: 0, time.Hour: 0} {
		if got := n.told.trust(10*sec + age); math.Abs(got-want) > 1e-9 {
			t.Errorf("a report of each second counts %g when it is %v old, want %g", got, age, want)
		}
	}
}

// An exporter that collects each 30 s is read each second: the same values must
// not count thirty times, and an old page never after a newer one.
func TestReportCountsOnce(t *testing.T) {
	n := NewNode("a")
	a := n.Avoidance(AvoidRule{Memory, 0.85})
	for i := range 10 {
		n.Hear(20*sec+time.Duration(i)*sec, report(20*sec, Memory, 0.9))
		n.Hear(20*sec+time.Duration(i)*sec, report(19*sec, Memory, 0.9))
	}
	if a.Holds(21 * sec) {
		t.Error("one sample read ten times was taken for ten")
	}
	n.Hear(31*sec, report(21*sec, Memory, 0.9))
	if !a.Holds(22 * sec) {
		t.Error("a second sample did not count")
	}
}

func TestNoNumberIsNotTold(t *testing.T) {
	var r Report
	r.Set(Utilization, math.NaN())
	r.Set(Memory, math.Inf(1))
	for s := range signals {
		if v, ok := r.Get(s); ok {
			t.Errorf("signal %d: %g", s, v)
		}
	}
	n := NewNode("a")
	n.Hear(sec, r)
	if n.told.any.Load() {
		t.Error("a report that says nothing was taken in")
	}
}

func TestOthersRequestsCountUnlessStale(t *testing.T) {
	b, all := New(Options{}), alike(2)
	for i := range 30 {
		at := sec + time.Duration(i)*sec
		all[0].Node.Hear(at, report(at, InFlight, 5))
		all[1].Node.Hear(at, report(at, InFlight, 0))
	}
	now := 31 * sec
	if e := b.Explain(now, all); !near(e[0].Factors.Load, 6, 0.01) || e[1].Factors.Load != 1 {
		t.Errorf("with 5 requests of others the load is %g, with none %g", e[0].Factors.Load, e[1].Factors.Load)
	}
	if i, _ := pick(b, now, all); i != 1 {
		t.Error("picked the node that others keep busy")
	}
	if e := b.Explain(now+time.Minute, all); e[0].Factors.Load != 1 {
		t.Errorf("a minute after the last report the load is still %g", e[0].Factors.Load)
	}
}

// What a node counts in flight includes ours.
func TestOwnRequestsAreNotTakenForOthers(t *testing.T) {
	b, all := New(Options{}), alike(1)
	attempts := make([]Attempt, 5)
	for i := range attempts {
		b.Pick(sec, all, &attempts[i])
	}
	for i := range 30 {
		at := 2*sec + time.Duration(i)*sec
		all[0].Node.Hear(at, report(at, InFlight, 5))
	}
	if others := load(&all[0].Node.told.others); others > 0.01 {
		t.Errorf("%g requests of others, but all are ours", others)
	}
}

func TestAgentsWeightCounts(t *testing.T) {
	b, all := New(Options{}), alike(2)
	all[0].Node.Hear(sec, report(sec, WeightShare, 0.25))
	attempts := make([]Attempt, 50)
	for i := range attempts {
		b.Pick(2*sec, all, &attempts[i])
	}
	if got := all[0].Node.InFlight(); got < 8 || got > 12 {
		t.Errorf("a node that asks for a quarter of its weight has %d of 50 requests", got)
	}
}
