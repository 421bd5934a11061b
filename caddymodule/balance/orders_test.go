package balance

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestDrainedNodeGetsNothingNew(t *testing.T) {
	b := ejecting()
	for _, tt := range []struct {
		name string
		set  func(all []Candidate)
		want int // -1: nothing
	}{
		{"it is the best by far", func(all []Candidate) { all[0].Weight = 1000 }, 1},
		{"all others are down", func(all []Candidate) { all[1].Down = true }, 1},
		{"all others were tried twice", func(all []Candidate) { all[1].Tries = 2 }, 1},
		{"all others are full", func(all []Candidate) { all[1].Full = true }, -1},
		{"it is the only one of the first tier", func(all []Candidate) { all[1].Tier = 2 }, 1},
		{"the other is drained, too", func(all []Candidate) { all[1].Node.Drain(sec, nil) }, -1},
		{"it is due to be probed", func(all []Candidate) { eject(b, sec, all[0].Node) }, 1},
		{"it is due to be probed, and the other down", func(all []Candidate) { eject(b, sec, all[0].Node); all[1].Down = true }, 1},
	} {
		all := alike(2)
		tt.set(all)
		all[0].Node.Drain(sec, nil)
		for range 200 {
			if i, reason := pick(b, 20*sec, all); i != tt.want {
				t.Errorf("%s: picked %d for %v, want %d", tt.name, i, reason, tt.want)
				break
			}
		}
		all[0].Node.Resume(20 * sec)
		all[1].Full = true
		if i, _ := pick(b, 20*sec, all[:1]); i != 0 {
			t.Errorf("%s: resumed, and not picked", tt.name)
		}
	}
}

func TestDrainEndsWithTheLastRequest(t *testing.T) {
	var changes []string
	b := New(Options{Breaker: Breaker{Failures: 1}, OnChange: func(c Change) {
		changes = append(changes, c.Old.String()+">"+c.New.String())
	}})
	all := alike(1)
	n := all[0].Node
	var one, two Attempt
	b.Pick(sec, all, &one)
	b.Pick(sec, all, &two)
	if s, changed := n.Drain(2*sec, nil); s != Draining || !changed {
		t.Errorf("%v, %v", s, changed)
	}
	if s, changed := n.Drain(3*sec, nil); s != Draining || changed {
		t.Errorf("drained twice: %v, %v", s, changed)
	}
	if since, ok := n.Drained(); since != 2*sec || !ok {
		t.Errorf("drained since %v, %v", since, ok)
	}
	one.Answer(3*sec, Failed, 0) // would eject it
	one.End(3 * sec)
	if s := n.State(3*sec, DefaultSlowStart); s != Draining {
		t.Errorf("%v with one request left", s)
	}
	two.Answer(4*sec, Served, 0)
	two.End(4 * sec)
	two.End(4 * sec)
	if s := n.State(4*sec, DefaultSlowStart); s != Drained {
		t.Errorf("%v with none left", s)
	}
	if len(changes) != 1 || changes[0] != "draining>drained" {
		t.Errorf("changes %v", changes)
	}
	if c, ok := n.LastChange(); !ok || c.New != Drained || c.At != 4*sec {
		t.Errorf("last change %+v", c)
	}
	if e := b.Explain(4*sec, []Candidate{{Node: n, Weight: 1, Tier: 1, Down: true}}); e[0].State != Drained {
		t.Errorf("explained as %v", e[0].State)
	}
}

func TestResumedNodeComesBackSlowly(t *testing.T) {
	n := NewNode("a")
	if n.Resume(sec) {
		t.Error("resumed a node that was not drained")
	}
	n.Drain(sec, nil)
	if !n.Resume(2 * sec) {
		t.Error("did not resume")
	}
	if s := n.State(3*sec, 10*sec); s != SlowStart {
		t.Errorf("%v", s)
	}
	if s := n.State(3*sec, -1); s != Up {
		t.Errorf("%v with slow_start off", s)
	}
}

func TestOrderedWeightReplacesTheConfigured(t *testing.T) {
	b, all := New(Options{}), alike(2)
	all[1].Weight = 7
	all[0].Node.OrderWeight(3)
	all[1].Node.OrderWeight(1)
	if w, ok := all[0].Node.OrderedWeight(); w != 3 || !ok {
		t.Errorf("%v, %v", w, ok)
	}
	attempts := make([]Attempt, 40)
	for i := range attempts {
		b.Pick(sec, all, &attempts[i])
	}
	if got := all[0].Node.InFlight(); got < 28 || got > 32 { // by lot among near ties
		t.Errorf("a node ordered to weight 3 beside one of 1 has %d of 40 requests", got)
	}
	if e := b.Explain(sec, all); e[0].Factors.Weight != 3 {
		t.Errorf("explained with weight %v", e[0].Factors.Weight)
	}
	all[1].Node.OrderWeight(0)
	if e := b.Explain(sec, all); e[1].Factors.Weight != 7 {
		t.Errorf("weight %v after the order was taken back", e[1].Factors.Weight)
	}
}

// A tier loses the capacity of its drained nodes, and spills.
func TestDrainedNodesSpill(t *testing.T) {
	b, all := New(Options{}), alike(3)
	all[2].Tier = 2
	all[0].Node.Drain(sec, nil)
	spilled := 0
	for range 10000 {
		if i, _ := pick(b, sec, all); i == 2 {
			spilled++
		}
	}
	if spilled < 2800 || spilled > 3200 {
		t.Errorf("with half of tier 1 drained, %d of 10000 requests spilled; 1-1.4/2 of them should", spilled)
	}
}

func TestOrdersOutliveTheLastUser(t *testing.T) {
	var p Pool
	n, _ := p.Acquire(sec, "a")
	n.Drain(sec, nil)
	p.Release(2*sec, n, 0)
	if !p.With(1e6*sec, "a", func(m *Node) {
		if m != n {
			t.Error("found another node")
		}
	}) {
		t.Fatal("the order was forgotten")
	}
	p.All(1e6*sec, func(m *Node, inUse bool) bool {
		if m != n || inUse {
			t.Errorf("%v, in use %v", m.Addr(), inUse)
		}
		return true
	})
	if again, created := p.Acquire(1e6*sec, "a"); again != n || created {
		t.Error("the node came back without its order")
	}
	p.Release(1e6*sec, n, 0)
	n.Resume(1e6 * sec)
	n.OrderWeight(2)
	if !p.With(1e6*sec, "a", func(*Node) {}) {
		t.Error("the weight was forgotten")
	}
	n.OrderWeight(0)
	if p.With(1e6*sec, "a", func(*Node) {}) {
		t.Error("a node without user or order is kept")
	}
}

// Once Drain has returned, no attempt begins, however many picks are under way.
func TestDrainIsEffectiveBeforeItReturns(t *testing.T) {
	all := alike(2)
	n := all[0].Node
	var orders atomic.Int64 // odd from after Drain to before Resume
	var done atomic.Bool
	var wg sync.WaitGroup
	for g := range 4 {
		b := New(Options{Seed: uint64(g)})
		wg.Go(func() {
			for !done.Load() {
				before := orders.Load()
				var a Attempt
				i, _ := b.Pick(sec, all, &a)
				if i == 0 && before%2 == 1 && orders.Load() == before {
					t.Error("picked a drained node")
				}
				a.End(sec)
			}
		})
	}
	for range 2000 {
		n.Drain(sec, nil)
		orders.Add(1)
		had := n.InFlight()
		for range 3 {
			now := n.InFlight()
			if now > had {
				t.Errorf("%d in flight, then %d", had, now)
			}
			had = now
		}
		orders.Add(1)
		n.Resume(sec)
	}
	done.Store(true)
	wg.Wait()
	if n.InFlight() != 0 {
		t.Errorf("%d in flight", n.InFlight())
	}
}

// A drain in mid-traffic, for maintenance, and the return.
func TestDrainUnderLoadCostsNothing(t *testing.T) {
	s := scenario{nodes: equal(3), rate: 150, length: 4 * time.Minute, seed: 7}
	var node *Node
	r := simulate(s, func(m *simulation, g int) policy {
		p := newGPUWith(m, g, Options{})
		node = p.candidates[0].Node
		return &ordered{gpu: p, orders: map[time.Duration]func(time.Duration){
			time.Minute:     func(now time.Duration) { node.Drain(now, nil) },
			2 * time.Minute: func(now time.Duration) { node.Resume(now) },
		}}
	})
	if share := r.share(0, time.Minute, 2*time.Minute); share != 0 {
		t.Errorf("the drained node got %.2f %% of picks", 100*share)
	}
	if share := r.share(0, 2*time.Minute, 2*time.Minute+sec/5); share > 0.5 { // it idles, the others do not
		t.Errorf("in the first 200 ms after it was resumed the node got %.0f %% of picks", 100*share)
	}
	if share := r.share(0, 2*time.Minute+15*sec, 2*time.Minute+25*sec); share < 0.25 {
		t.Errorf("having answered as fast as ever, the node got %.0f %% half a slow start later", 100*share)
	}
	if share := r.share(0, 3*time.Minute, 4*time.Minute); math.Abs(share-1./3) > 0.02 {
		t.Errorf("a minute after it was resumed the node got %.1f %%", 100*share)
	}
	if r.failed() != 0 {
		t.Errorf("%d requests failed", r.failed())
	}
	better(t, "p99 in the minutes after draining and resuming to p99 before",
		r.percentile(99, time.Minute, 3*time.Minute), r.percentile(99, 0, time.Minute), 1.6)
}

// ordered gives orders in the course of a simulation.
type ordered struct {
	*gpu
	orders map[time.Duration]func(now time.Duration)
}

func (o *ordered) pick(now time.Duration, tries []int) (int, func(time.Duration, Verdict)) {
	for at, order := range o.orders {
		if now >= at {
			order(at)
			delete(o.orders, at)
		}
	}
	return o.gpu.pick(now, tries)
}

// FuzzOrders mixes orders into the life of nodes and attempts, in any order,
// and compares each node with a model of what was ordered.
func FuzzOrders(f *testing.F) {
	f.Add([]byte{0, 3, 0, 1, 2, 4, 0, 5})
	f.Add([]byte{0, 0, 0, 0x03, 0x0b, 0x13, 0, 2, 0x0a, 0x12, 0x04, 0})
	f.Add([]byte{0, 1, 0, 9, 0, 17, 0, 0x43, 0xf6, 0, 0xff, 0, 0x44, 0xf6, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		finished := map[*Node]int{} // Draining to Drained
		b := New(Options{Breaker: Breaker{Failures: 1}, OnChange: func(c Change) {
			if c.Old == c.New || (c.Old == Draining) != (c.New == Drained) {
				t.Fatalf("%v to %v", c.Old, c.New)
			}
			if c.New == Drained {
				finished[c.Node]++
			}
		}})
		all := candidates(3)
		var drained [3]bool
		var live []*Attempt
		now := sec
		for _, op := range ops {
			now += time.Duration(op) * ms
			which := int(op >> 3)
			i := which % len(all)
			n := all[i].Node
			switch op & 7 {
			case 0:
				for i := range all {
					all[i].Tries = which >> i & 1
				}
				a := new(Attempt)
				picked, reason := b.Pick(now, all, a)
				if picked < 0 {
					for i := range all {
						if !drained[i] {
							t.Fatalf("picked none, though node %d is not drained", i)
						}
					}
					continue
				}
				if drained[picked] {
					t.Fatalf("picked drained node %d for %v", picked, reason)
				}
				live = append(live, a)
			case 1:
				if len(live) > 0 {
					live[which%len(live)].Answer(now, Verdict(which%4), 0)
				}
			case 2:
				if len(live) > 0 {
					a := live[which%len(live)]
					was, left := finished[a.node], a.node.InFlight()
					ends := a.phase != ended
					a.End(now)
					if got := finished[a.node] - was; (got == 1) != (ends && left == 1 && a.node.drained()) {
						t.Fatalf("%d drains finished with %d in flight", got, left)
					}
				}
			case 3:
				s, changed := n.Drain(now, nil)
				if changed == drained[i] || s != n.State(now, DefaultSlowStart) {
					t.Fatalf("%v, %v", s, changed)
				}
				drained[i] = true
			case 4:
				if n.Resume(now) != drained[i] {
					t.Fatal("resumed what was not drained, or did not")
				}
				drained[i] = false
			case 5:
				n.OrderWeight(float64(which))
				if w, ok := n.OrderedWeight(); ok != (which != 0) || w != float64(which) {
					t.Fatalf("weight %v, %v", w, ok)
				}
			default:
				all[i].Down = op&1 != 0
			}
			for i := range all {
				s := all[i].Node.State(now, DefaultSlowStart)
				want := s
				switch {
				case drained[i] && all[i].Node.InFlight() > 0:
					want = Draining
				case drained[i]:
					want = Drained
				case s == Draining, s == Drained:
					want = Up
				}
				if s != want {
					t.Fatalf("node %d is %v, want %v", i, s, want)
				}
			}
		}
		for _, a := range live {
			a.End(now)
		}
		for i := range all {
			if n := all[i].Node; n.InFlight() != 0 || n.first != nil || n.breaker.probing.Load() {
				t.Fatalf("node %d is left with %d in flight, probing %v", i, n.InFlight(), n.breaker.probing.Load())
			}
		}
	})
}
