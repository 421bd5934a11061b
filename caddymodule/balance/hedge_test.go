package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// serves lets the node answer n requests, one after the other, each in the
// time given, and returns when it has.
func serves(b *Balancer, all []Candidate, n *Node, now time.Duration, took time.Duration, times int) time.Duration {
	for range times {
		var a Attempt
		one := all[slices.IndexFunc(all, func(c Candidate) bool { return c.Node == n })]
		b.Pick(now, []Candidate{one}, &a)
		now += took
		a.Answer(now, Served, 0)
		a.End(now)
	}
	return now
}

func TestNothingIsHedgedBeforeThereIsARecord(t *testing.T) {
	b, all := New(Options{}), candidates(2)
	var a Attempt
	b.Pick(sec, all, &a)
	if left, ok := a.Patience(sec); ok {
		t.Errorf("a node of which nothing is known may be silent for %v only", left)
	}
	a.End(sec)
	now := serves(b, all, all[0].Node, 2*sec, 40*ms, recordMinimum-1) + sec
	b.Pick(now, all[:1], &a)
	if left, ok := a.Patience(now); ok {
		t.Errorf("%d answers make a record: %v", recordMinimum-1, left)
	}
	a.End(now)
	now = serves(b, all, all[0].Node, now, 80*ms, recordMinimum) + sec
	b.Pick(now, all[1:], &a) // alone: it has no pool to borrow from
	if _, ok := a.Patience(now); ok {
		t.Error("the record of a node in no pool of its own counts")
	}
	a.End(now)
	now += sec
	all[0].Tries = 1
	b.Pick(now, all, &a)
	if a.Node() != all[1].Node {
		t.Fatal("picked the node that was tried")
	}
	if left, ok := a.Patience(now); !ok || left != 320*ms {
		t.Errorf("a new node in a pool whose answers take 80 ms may be silent for %v, %v; want twice what a known one may", left, ok)
	}
}

func TestPatienceIsTwiceTheLongestOfTheRecord(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	n := all[0].Node
	now := serves(b, all, n, sec, 20*ms, 50)
	patience := func() time.Duration {
		var a Attempt
		b.Pick(now, all, &a)
		defer a.End(now)
		left, ok := a.Patience(now)
		if !ok {
			t.Fatal("no record")
		}
		if later, _ := a.Patience(now + 30*ms); later != left-30*ms {
			t.Errorf("%v, and %v after 30 ms", left, later)
		}
		return left
	}
	if p := patience(); p != hedgeFloor {
		t.Errorf("answers of 20 ms earn %v, want the floor", p)
	}
	now = serves(b, all, n, now, 400*ms, 1)
	if p := patience(); p != 800*ms {
		t.Errorf("one of 400 ms earns %v", p)
	}
	// One request in 100 is a long text. None of them is ever overdue.
	for i := range 2000 {
		took := 20 * ms
		if i%100 == 99 {
			took = 400 * ms
			if p := patience(); p < took {
				t.Fatalf("after %d answers the patience is %v, and a long text takes %v", i, p, took)
			}
		}
		now = serves(b, all, n, now, took, 1)
	}
	now = serves(b, all, n, now, 20*ms, 1500)
	if p := patience(); p != hedgeFloor {
		t.Errorf("1500 answers of 20 ms later it is %v", p)
	}
}

// What a request waits behind others at its node is no silence.
func TestPatienceGrowsWithTheLoadTheRequestFound(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	n := all[0].Node
	now := serves(b, all, n, sec, 100*ms, 50)
	n.knee.best.Store(2) // 1.5 requests
	attempts := make([]Attempt, 6)
	for i := range attempts {
		b.Pick(now, all, &attempts[i])
		want := time.Duration(float64(200*ms) * max(1, float64(i+1)/1.5))
		if left, _ := attempts[i].Patience(now); math.Abs(float64(left-want)) > float64(ms) {
			t.Errorf("with %d in flight %v, want %v", i+1, left, want)
		}
	}
	for i := range attempts {
		attempts[i].End(now)
	}
}

// The price: of lognormal service times hardly any is hedged.
func TestHardlyAnyHealthyRequestIsOverdue(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	rng := rand.New(rand.NewPCG(1, 2))
	now, overdue := sec, 0
	const requests = 50_000
	for range requests {
		var a Attempt
		b.Pick(now, all, &a)
		took := seconds(0.080 * math.Exp(simSigma*rng.NormFloat64()))
		now += took
		if left, ok := a.Patience(now); ok && left < 0 {
			overdue++
		}
		a.Answer(now, Served, 0)
		a.End(now)
	}
	t.Logf("%d of %d", overdue, requests)
	if overdue > requests/1000 {
		t.Errorf("%d of %d requests of a healthy node are overdue", overdue, requests)
	}
}

func TestHedgeGoesToAHealthyNodeWithRoom(t *testing.T) {
	for name, spoil := range map[string]func(c *Candidate){
		"healthy": func(*Candidate) {},
		"full":    func(c *Candidate) { c.Full = true },
		"down":    func(c *Candidate) { c.Down = true },
		"tried":   func(c *Candidate) { c.Tries = 1 },
		"drained": func(c *Candidate) { c.Node.Drain(sec, func(State) {}) },
		"hung": func(c *Candidate) {
			var a Attempt
			New(Options{}).Pick(sec, []Candidate{*c}, &a)
		},
		"ejected": func(c *Candidate) {
			b := New(Options{Breaker: Breaker{Failures: 1}})
			var a Attempt
			b.Pick(9*sec, []Candidate{*c}, &a)
			a.Answer(9*sec, Failed, 0)
			a.End(9 * sec)
		},
		"to be probed": func(c *Candidate) {
			b := New(Options{Breaker: Breaker{Failures: 1}})
			var a Attempt
			b.Pick(sec, []Candidate{*c}, &a)
			a.Answer(sec, Failed, 0)
			a.End(sec)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, all := New(Options{}), candidates(2)
			all[0].Tries = 1
			spoil(&all[1])
			before := all[1].Node.InFlight()
			var a Attempt
			chosen := b.PickOther(10*sec, all, &a)
			want := -1
			if name == "healthy" {
				want = 1
			}
			if chosen != want {
				t.Fatalf("chose %d, want %d", chosen, want)
			}
			if chosen >= 0 {
				if n := all[1].Node; n.InFlight() != 1 || n.Picks(Hedge) != 1 {
					t.Errorf("%d in flight, %d picks", n.InFlight(), n.Picks(Hedge))
				}
				a.End(10 * sec)
			}
			if n := all[1].Node.InFlight(); n != before {
				t.Errorf("%d in flight are left of %d", n, before)
			}
		})
	}
}

// A node whose request was answered elsewhere owes that answer still: the next
// requests must not hang on it, though nothing is in flight there any more.
func TestNodeThatLostARaceStaysSuspect(t *testing.T) {
	b, all := New(Options{Breaker: Breaker{Failures: 1}}), candidates(2)
	hung, other := all[0].Node, all[1].Node
	now := serves(b, all, hung, sec, 20*ms, 50)
	now = serves(b, all, other, now, 20*ms, 50)
	var a Attempt
	b.Pick(now, all[:1], &a)
	now += 100 * ms
	a.Lose(now, nil)
	if n := hung.InFlight(); n != 0 {
		t.Fatalf("%d in flight after the race", n)
	}
	for range 200 {
		now += 20 * ms
		var a Attempt
		if i, _ := b.Pick(now, all, &a); i == 0 {
			t.Fatalf("%v after the race the silent node gets a request", now)
		}
		a.Answer(now+10*ms, Served, 0)
		a.End(now + 10*ms)
	}
	if e := b.Explain(now, all)[0]; e.State != Avoided || !e.Hung {
		t.Errorf("it is %v, want avoided for its silence", e.State)
	}
	if hung.Ejections() != 0 {
		t.Error("it was ejected for being slow")
	}
	now += lostFor // it gets another chance
	if e := b.Explain(now, all)[0]; e.State != Up {
		t.Errorf("%v later it is %v", lostFor, e.State)
	}
}

func TestAnswerEndsSuspicion(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	now := serves(b, all, all[0].Node, sec, 20*ms, 50)
	var lost, next Attempt
	b.Pick(now, all, &lost)
	b.Pick(now, all, &next)
	now += 200 * ms
	lost.Lose(now, nil)
	now += sec
	if !b.Explain(now, all)[0].Hung {
		t.Fatal("not hung after 1.2 s of silence")
	}
	next.Answer(now, Served, 0)
	next.End(now)
	if e := b.Explain(now+sec, all)[0]; e.Hung || e.State != Up {
		t.Errorf("after an answer it is %v", e.State)
	}
}

// A long text at a node that answers others meanwhile says nothing against it.
func TestSlowRequestMakesNoSuspect(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	now := serves(b, all, all[0].Node, sec, 20*ms, 50)
	var long Attempt
	b.Pick(now, all, &long)
	now = serves(b, all, all[0].Node, now, 20*ms, 5)
	long.Lose(now, nil)
	if e := b.Explain(now+2*sec, all)[0]; e.Hung || e.State != Up {
		t.Errorf("it is %v", e.State)
	}
}

func TestRecoveredNodeIsNoSuspect(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	n := all[0].Node
	now := serves(b, all, n, sec, 20*ms, 50)
	var a Attempt
	b.Pick(now, all, &a)
	a.Lose(now+200*ms, nil)
	n.Recover(now + 2*sec)
	if e := b.Explain(now+3*sec, all)[0]; e.Hung {
		t.Error("its health checks say that it is back, and it is still suspect")
	}
}

func TestLoserTakesItsPlaceOnce(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	var a Attempt
	b.Pick(sec, all, &a)
	a.Lose(2*sec, nil)
	a.Answer(2*sec, Served, 0)
	a.End(2 * sec)
	a.Lose(2*sec, nil)
	if n := all[0].Node; n.InFlight() != 0 || n.first != nil {
		t.Errorf("%d in flight", n.InFlight())
	}
}
