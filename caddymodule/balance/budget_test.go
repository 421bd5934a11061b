package balance

import (
	"sync"
	"testing"
	"time"
)

// spend takes retries until there are none, and returns how many there were.
func spend(b *Budget, now time.Duration, take func(time.Duration) bool) (n int) {
	for n < 10_000 && take(now) {
		n++
	}
	return n
}

func TestBudgetIsAShareOfRecentRequestsAndAFloor(t *testing.T) {
	for _, test := range []struct {
		name               string
		requests, inFlight int
		retries, hedges    int
	}{
		{"idle", 0, 0, 10, 10},
		{"few requests", 5, 1, 11, 11},
		{"many", 1000, 5, 210, 210},
		{"a node with more in flight than the floor", 100, 50, 70, 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			full := func() *Budget {
				b := NewBudget(DefaultBudgetShare, DefaultBudgetFloor)
				for range test.requests {
					b.Request(20*sec, test.inFlight)
				}
				return b
			}
			b := full()
			if n := spend(b, 20*sec, b.Retry); n != test.retries {
				t.Errorf("%d retries, want %d", n, test.retries)
			}
			if b.Left(20 * sec) {
				t.Error("something is left of what was spent")
			}
			b = full()
			if n := spend(b, 20*sec, b.Hedge); n != test.hedges {
				t.Errorf("%d hedges, want %d", n, test.hedges)
			}
		})
	}
}

func TestBudgetForgetsAfterItsWindow(t *testing.T) {
	b := NewBudget(0.2, 10)
	for range 100 {
		b.Request(20*sec, 1)
	}
	if n := spend(b, 20*sec, b.Retry); n != 30 {
		t.Fatalf("%d, want 30", n)
	}
	if n := spend(b, 29*sec+900*ms, b.Retry); n != 0 {
		t.Errorf("%d more within 10 s", n)
	}
	if n := spend(b, 30*sec, b.Retry); n != 10 {
		t.Errorf("%d after 10 s, want the floor: the requests are as old as the retries", n)
	}
}

func TestWhatWasNotSentIsGivenBack(t *testing.T) {
	b := NewBudget(0.2, 1)
	if !b.Hedge(20*sec) || b.Hedge(20*sec) {
		t.Fatal("want a budget of one")
	}
	b.Return(21 * sec)
	if !b.Hedge(21 * sec) {
		t.Error("what was given back is lost")
	}
}

// The primaries are full, a backup has room: each request is answered at the
// second try. Nothing is multiplied, so nothing must be refused. Hedges are work
// done twice, whatever comes of them.
func TestRetriesThatSucceedAreNotRationed(t *testing.T) {
	b := NewBudget(0.2, 10)
	refused := 0
	now := 20 * sec
	for range 5000 {
		now += ms
		b.Request(now, 1)
		if b.Retry(now) {
			b.Good(now)
		} else {
			refused++
		}
	}
	if refused > 0 {
		t.Errorf("%d of 5000 retries refused though all succeed", refused)
	}
	if n := spend(b, now, b.Hedge); n > 10 {
		t.Errorf("%d hedges on top of them", n)
	}
	// Then the backup is full, too.
	tried := 0
	for range 5000 {
		now += ms
		b.Request(now, 1)
		if b.Retry(now) {
			tried++
		}
	}
	if tried > 1300 {
		t.Errorf("%d of 5000 requests retried after retries ceased to succeed", tried)
	}
}

func TestNoLimit(t *testing.T) {
	b := NewBudget(-1, 0)
	if n := spend(b, sec, b.Retry); n != 10_000 {
		t.Errorf("%d", n)
	}
}

func TestBudgetIsForManyRequestsAtOnce(t *testing.T) {
	b := NewBudget(0.2, 100)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := 0
	for range 8 {
		wg.Go(func() {
			n := spend(b, 20*sec, b.Retry)
			mu.Lock()
			defer mu.Unlock()
			got += n
		})
	}
	wg.Wait()
	if got != 100 {
		t.Errorf("%d of 100", got)
	}
}

// refusing are nodes that answer 503 at once when they have as many requests as
// they can hold.
func refusing(n int) []simNode {
	nodes := equal(n)
	for i := range nodes {
		nodes[i].room = 2 * nodes[i].slots
	}
	return nodes
}

// Three retries for each request would make of a load of twice the capacity one
// of up to eight times, and of nodes that all fail four times the work.
func TestRetriesDoNotMultiplyAnOverload(t *testing.T) {
	for name, nodes := range map[string][]simNode{
		"twice the capacity": refusing(3),
		"every node fails": {
			{slots: 4, service: 40 * ms, fate: during(0, time.Hour, failing)},
			{slots: 4, service: 40 * ms, fate: during(0, time.Hour, failing)},
			{slots: 4, service: 40 * ms, fate: during(0, time.Hour, failing)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario{nodes: nodes, rate: 600, length: 30 * sec, retries: 3, seed: 3}
			policies := map[string]func(*simulation, int) policy{"gpu": newGPU, "round robin": newRoundRobin}
			for which, p := range policies {
				s.budget = nil
				without := simulate(s, p)
				s.budget = NewBudget(DefaultBudgetShare, DefaultBudgetFloor)
				with := simulate(s, p)
				requests := float64(len(with.requests))
				// The floor is there once in each of three windows of 10 s, and
				// as many as a node had in flight.
				most := (1+DefaultBudgetShare)*requests + 4*max(DefaultBudgetFloor, float64(with.busiest))
				t.Logf("%s: %.0f requests, %d attempts without a budget, %d with, at most %.0f", which, requests, len(without.picks), len(with.picks), most)
				if float64(len(with.picks)) > most {
					t.Errorf("%s: %d attempts for %.0f requests, want at most %.0f", which, len(with.picks), requests, most)
				}
				if name == "twice the capacity" && with.failed() > without.failed()+len(with.requests)/50 {
					t.Errorf("%s: %d failed with the budget, %d without", which, with.failed(), without.failed())
				}
			}
		})
	}
}

// A node that dies with everything it had in flight loses nothing for the budget.
func TestBudgetCoversANodesDeath(t *testing.T) {
	nodes := equal(2)
	nodes[0] = simNode{slots: 400, service: 8 * sec, dies: 60 * sec}
	nodes[1] = simNode{slots: 800, service: 8 * sec}
	s := scenario{nodes: nodes, rate: 40, length: 80 * sec, retries: 1, seed: 3, budget: NewBudget(DefaultBudgetShare, DefaultBudgetFloor)}
	r := simulate(s, newGPU)
	if r.busiest < 5*DefaultBudgetFloor {
		t.Fatalf("at most %d in flight at a node: this shows nothing", r.busiest)
	}
	if n := r.failed(); n != 0 {
		t.Errorf("%d of %d requests failed, of up to %d that the node had in flight", n, len(r.requests), r.busiest)
	}
}
