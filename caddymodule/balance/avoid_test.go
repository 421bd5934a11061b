package balance

import (
	"testing"
	"time"
)

func TestAvoidanceHasHysteresis(t *testing.T) {
	n := NewNode("a")
	a := n.Avoidance(AvoidRule{Memory, 0.80})
	now := 10 * sec
	say := func(values ...float64) {
		for _, v := range values {
			now += sec
			n.Hear(now, report(now, Memory, v))
		}
	}
	expect := func(want bool, when string) {
		t.Helper()
		if got := a.Holds(now); got != want {
			t.Errorf("%s: avoided %v", when, got)
		}
	}
	say(0.85, 0.70, 0.90)
	expect(false, "single samples beyond the limit")
	say(0.90)
	expect(true, "two in a row")
	say(0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75)
	expect(true, "just below the limit")
	say(0.60, 0.60)
	expect(true, "two samples well below")
	say(0.60)
	expect(false, "three samples well below")
	say(0.90, 0.90)
	expect(true, "beyond again")
	say(0.10, 0.10, 0.10, 0.10)
	expect(true, "well below again, but within the dwell of 10 s")
	say(0.10, 0.10, 0.10, 0.10, 0.10, 0.10)
	expect(false, "after the dwell")
}

func TestAvoidanceLapsesWithItsTelemetry(t *testing.T) {
	n := NewNode("a")
	a := n.Avoidance(AvoidRule{Waiting, 5})
	n.Hear(sec, report(sec, Waiting, 9))
	n.Hear(2*sec, report(2*sec, Waiting, 9))
	if !a.Holds(11 * sec) {
		t.Error("lapsed while the last report was 9 intervals old")
	}
	if a.Holds(12 * sec) {
		t.Error("holds though nothing was heard for 10 intervals")
	}
}

// A reload makes new pools; they must find what the old ones knew.
func TestAvoidanceLivesWithTheNode(t *testing.T) {
	n := NewNode("a")
	rule := AvoidRule{KVCache, 0.95}
	if first := n.Avoidance(rule); n.Avoidance(rule) != first {
		t.Error("two pools with one rule see two standings")
	}
	if n.Avoidance(rule) == n.Avoidance(AvoidRule{KVCache, 0.9}) {
		t.Error("two rules share a standing")
	}
	for i := range 10 * maxAvoidances {
		n.Avoidance(AvoidRule{Waiting, float64(i)})
	}
	if got := len(n.told.avoidance); got > maxAvoidances {
		t.Errorf("%d rules are remembered", got)
	}
}

// avoiding returns candidates under a rule on memory, of which those with a
// true are beyond the limit, by that much in order.
func avoiding(now time.Duration, beyond ...bool) []Candidate {
	all := alike(len(beyond))
	for i, full := range beyond {
		n := all[i].Node
		all[i].Avoid = []*Avoidance{n.Avoidance(AvoidRule{Memory, 0.85})}
		v := 0.2
		if full {
			v = 0.86 + 0.01*float64(i)
		}
		n.Hear(now-2*ms, report(now-2*ms, Memory, v))
		n.Hear(now-ms, report(now-ms, Memory, v))
	}
	return all
}

func shares(b *Balancer, now time.Duration, all []Candidate) []int {
	got := make([]int, len(all))
	for range 1000 {
		if i, _ := pick(b, now, all); i >= 0 {
			got[i]++
		}
	}
	return got
}

func TestAvoidedNodeGetsNothingWhileOthersCan(t *testing.T) {
	all := avoiding(10*sec, true, false, false)
	if got := shares(New(Options{}), 10*sec, all); got[0] != 0 {
		t.Errorf("an avoided node got %d of 1000", got[0])
	}
	all[1].Down, all[2].Full = true, true
	if got := shares(New(Options{}), 10*sec, all); got[0] != 1000 {
		t.Errorf("with no other left the avoided node got %d of 1000", got[0])
	}
}

// DESIGN: load alone never excludes more than half the capacity.
func TestLoadNeverTakesMoreThanHalfOut(t *testing.T) {
	got := shares(New(Options{}), 10*sec, avoiding(10*sec, true, true, true, false))
	if got[0] == 0 || got[1] != 0 || got[2] != 0 || got[3] == 0 {
		t.Errorf("three of four nodes are overloaded, picks %v: want the least overloaded back, and no more", got)
	}
	all := avoiding(10*sec, true, false)
	all[0].Weight = 10
	all[1].Weight = 5
	if got := shares(New(Options{}), 10*sec, all); got[0] == 0 {
		t.Errorf("two thirds of the weight were excluded: picks %v", got)
	}
	all = avoiding(10*sec, true, true)
	if got := shares(New(Options{}), 10*sec, all); got[0] == 0 {
		t.Errorf("both of two nodes are overloaded, picks %v", got)
	}
}

// What a node says of its health is no matter of load: it may take all out but
// the last.
func TestUnwellNodesAreAvoidedWithoutFloor(t *testing.T) {
	all := alike(3)
	for i := range all {
		n := all[i].Node
		all[i].Avoid = []*Avoidance{n.Avoidance(AvoidRule{Unwell, 1})}
		if i < 2 {
			n.Hear(sec, report(sec, Unwell, 1))
		}
	}
	b := New(Options{})
	if got := shares(b, 2*sec, all); got[2] != 1000 {
		t.Errorf("two of three say they can't serve, picks %v", got)
	}
	all[2].Node.Hear(3*sec, report(3*sec, Unwell, 1))
	if got := shares(b, 3*sec, all); got[0] == 0 || got[1] == 0 || got[2] == 0 {
		t.Errorf("all say they can't serve, picks %v: want to try anyway", got)
	}
	all[0].Node.Hear(4*sec, report(4*sec, Unwell, 0))
	if got := shares(b, 4*sec, all); got[0] != 1000 {
		t.Errorf("one is well again, picks %v", got)
	}
}

func TestAvoidedNodesAreNoCapacityOfTheirTier(t *testing.T) {
	all := avoiding(10*sec, true, false, false)
	all[2].Tier = 2
	got := shares(New(Options{}), 10*sec, all)
	if got[0] != 0 || got[2] < 230 || got[2] > 370 { // 1 - 1.4/2
		t.Errorf("picks %v; with half of tier 1 avoided 30 %% spill", got)
	}
}
