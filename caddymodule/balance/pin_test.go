package balance

import (
	"math"
	"testing"
	"time"
)

// pinned makes one pick for a request whose session is at a node.
func pinned(b *Balancer, all []Candidate, at int) (int, Pin) {
	for i := range all {
		all[i].Affinity = 0
	}
	all[at].Affinity = 1
	var a Attempt
	i, pin := b.PickPinned(sec, all, &a)
	if i >= 0 {
		a.End(sec)
	}
	return i, pin
}

func TestPinIsKeptUnlessItsNodeCannotServe(t *testing.T) {
	withQueue := Options{Backlog: func() time.Duration { return 0 }, Breaker: Breaker{Failures: DefaultFailures}}
	for _, test := range []struct {
		name   string
		o      Options
		change func(b *Balancer, all []Candidate)
		node   int
		want   Pin
	}{
		{"a busy node", withQueue, func(b *Balancer, all []Candidate) {
			all[0].InFlight = 20 // 0.6 s more than the others: a second is not worth a session
		}, 0, PinKept},
		{"a slower node", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Node.latency.set(sec, 0.9)
		}, 0, PinKept},
		{"a node that failed once", withQueue, func(b *Balancer, all []Candidate) {
			fail(b, all[0].Node)
		}, 0, PinKept},
		{"a node in slow start", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Node.Join(sec)
		}, 0, PinKept},
		{"a backup", withQueue, func(b *Balancer, all []Candidate) { all[0].Tier = 2 }, 0, PinKept},
		{"a node avoided for its load", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Avoid = []*Avoidance{holding(all[0].Node, AvoidRule{Memory, 0.85})}
		}, 0, PinKept},
		{"an overloaded node", withQueue, func(b *Balancer, all []Candidate) { all[0].InFlight = 60 }, -1, PinOverloaded},
		{"all overloaded", withQueue, func(b *Balancer, all []Candidate) {
			all[0].InFlight, all[1].InFlight, all[2].InFlight = 60, 40, 40
		}, 0, PinKept},
		{"an idle backup beside an overloaded node", withQueue, func(b *Balancer, all []Candidate) {
			all[0].InFlight, all[1].InFlight, all[2].Tier = 60, 40, 2
		}, 0, PinKept},
		{"a node ten times slower, at work for seconds", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Node.latency.set(sec, 12)
			all[1].Node.latency.set(sec, 1.2)
			all[2].Node.latency.set(sec, 1.2)
		}, -1, PinOverloaded},
		{"a node that is down", withQueue, func(b *Balancer, all []Candidate) { all[0].Down = true }, -1, PinOut},
		{"a node unwell by its own word", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Avoid = []*Avoidance{holding(all[0].Node, AvoidRule{Signal: Unwell, Limit: 1})}
		}, -1, PinOut},
		{"an ejected node", withQueue, func(b *Balancer, all []Candidate) { eject(b, sec, all[0].Node) }, -1, PinOut},
		{"a drained node", withQueue, func(b *Balancer, all []Candidate) { all[0].Node.Drain(sec, nil) }, -1, PinDrained},
		{"a node already tried", withQueue, func(b *Balancer, all []Candidate) { all[0].Tries = 1 }, -1, PinTried},
		{"a full node", Options{}, func(b *Balancer, all []Candidate) { all[0].Full = true }, -1, PinFull},
		{"a full node with a queue", withQueue, func(b *Balancer, all []Candidate) { all[0].Full = true }, -1, PinWaits},
		{"a full node with many waiting for it", withQueue, func(b *Balancer, all []Candidate) {
			all[0].Full, all[0].Backlog = true, 2*sec
		}, -1, PinFull},
		{"every node is full", withQueue, func(b *Balancer, all []Candidate) {
			for i := range all {
				all[i].Full = true
			}
			all[0].Backlog = 2 * sec
		}, -1, PinWaits},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, all := New(test.o), alike(3)
			test.change(b, all)
			before := all[0].Node.Picks(Sticky)
			if node, pin := pinned(b, all, 0); node != test.node || pin != test.want {
				t.Errorf("picked %d, the pin is %v; want %d, %v", node, pin, test.node, test.want)
			}
			if counted := all[0].Node.Picks(Sticky) > before; counted != (test.node == 0) {
				t.Errorf("counted as sticky: %v", counted)
			}
		})
	}
}

func fail(b *Balancer, n *Node) {
	var a Attempt
	b.Pick(sec, []Candidate{{Node: n, Weight: 1, Tier: 1}}, &a)
	a.Answer(sec, Served, 0)
	a.End(sec)
	b.Pick(10*sec, []Candidate{{Node: n, Weight: 1, Tier: 1}}, &a)
	a.Answer(10*sec, Failed, 0)
	a.End(10 * sec)
}

func holding(n *Node, rule AvoidRule) *Avoidance {
	a := n.Avoidance(rule)
	a.on.Store(true)
	a.stale.Store(int64(time.Hour))
	a.value.Store(math.Float64bits(1))
	return a
}

// Without a wish for it no request goes to an ejected node but as a probe; those
// pinned to it are the ones who want to know.
func TestPinnedRequestProbesItsNode(t *testing.T) {
	b, all := ejecting(), alike(2)
	eject(b, sec, all[0].Node)
	all[0].Affinity = 1
	var first, second Attempt
	later := 20 * sec // the ejection is over
	if i, pin := b.PickPinned(later, all, &first); i != 0 || pin != PinKept {
		t.Errorf("picked %d, the pin is %v", i, pin)
	}
	if n := all[0].Node.Picks(Probe); n != 1 {
		t.Errorf("%d probes", n)
	}
	if i, pin := b.PickPinned(later, all, &second); i != -1 || pin != PinOut {
		t.Errorf("picked %d while a probe is under way, the pin is %v", i, pin)
	}
	first.Answer(later, Served, 0)
	first.End(later)
	if i, pin := b.PickPinned(later, all, &second); i != 0 || pin != PinKept {
		t.Errorf("picked %d after a good probe, the pin is %v", i, pin)
	}
}

func TestNextWishIsMetWhenTheFirstCannotBe(t *testing.T) {
	b, all := New(Options{}), alike(3)
	all[0].Affinity, all[1].Affinity, all[2].Affinity = 0.5, 0.9, 0.1
	all[1].Down = true
	var a Attempt
	if i, pin := b.PickPinned(sec, all, &a); i != 0 || pin != PinOut {
		t.Errorf("picked %d, the pin is %v", i, pin)
	}
	a.End(sec)
	if i, pin := b.PickPinned(sec, alike(3), &a); i != -1 || pin != PinNone {
		t.Errorf("picked %d without a wish, the pin is %v", i, pin)
	}
}

// Where a session begins it stays, so nodes a little faster must not get all.
func TestNewSessionsAreSharedOut(t *testing.T) {
	b, all := New(Options{}), alike(4)
	all[1].Node.latency.set(sec, 0.060)
	all[2].Weight = 2 // twice in the knee that is not yet known, which half of an empty node does not show
	all[3].Down = true
	var got [4]int
	const n = 30000
	for range n {
		var a Attempt
		i, reason := b.PickSession(sec, all, &a)
		a.End(sec)
		got[i]++
		if reason != Best {
			t.Fatalf("reason %v", reason)
		}
	}
	perfect := 1/0.030 + 1/0.060 + 2/(0.030*congestion(0.5))
	for i, want := range []float64{1 / 0.030, 1 / 0.060, 2 / (0.030 * congestion(0.5)), 0} {
		if share := float64(got[i]) / n; math.Abs(share-want/perfect) > 0.015 {
			t.Errorf("node %d got %.3f of the sessions, want %.3f", i, share, want/perfect)
		}
	}
	for i := range all {
		all[i].Tier = 2
	}
	all[1].Tier = 1
	for range 100 {
		var a Attempt
		if i, _ := b.PickSession(sec, all, &a); i != 1 {
			t.Fatalf("a session began at a backup")
		}
		a.End(sec)
	}
}
