package balance

import (
	"testing"
	"time"
)

// pick makes one pick whose attempt ends at once.
func pick(b *Balancer, now time.Duration, all []Candidate) (int, Reason) {
	var a Attempt
	i, reason := b.Pick(now, all, &a)
	if i >= 0 {
		a.End(now)
	}
	return i, reason
}

// eject makes a node's breaker open.
func eject(b *Balancer, now time.Duration, n *Node) {
	for range DefaultFailures {
		var a Attempt
		b.Pick(now, []Candidate{{Node: n, Weight: 1, Tier: 1}}, &a)
		a.Answer(now, Failed, 0)
		a.End(now)
	}
}

func alike(n int) []Candidate {
	all := candidates(n)
	for i := range all {
		all[i].Node.latency.set(sec, 0.030)
	}
	return all
}

func ejecting() *Balancer { return New(Options{Breaker: Breaker{Failures: DefaultFailures}}) }

func TestNearTiesAreDrawnByLot(t *testing.T) {
	b, all := New(Options{}), alike(4)
	all[1].Node.latency.set(sec, 0.034) // within 15 %
	all[3].Node.latency.set(sec, 0.035) // beyond
	var got [4]int
	for range 30000 {
		i, _ := pick(b, sec, all)
		got[i]++
	}
	for i, n := range got[:3] {
		if n < 9500 || n > 10500 {
			t.Errorf("node %d got %d of 30000 picks among three alike", i, n)
		}
	}
	if got[3] != 0 {
		t.Errorf("a node 17 %% worse got %d picks", got[3])
	}
}

// Backups far away say nothing about a primary that has just come back.
func TestNodeOfWhichNothingIsKnownIsTakenForOneOfItsTier(t *testing.T) {
	b, all := New(Options{}), alike(4)
	all[0].Node.latency.forget()
	for i := range all[2:] {
		all[2+i].Tier = 2
		all[2+i].Node.latency.set(sec, 0.090)
	}
	var got [4]int
	for range 1000 {
		i, _ := pick(b, sec, all)
		got[i]++
	}
	if got[0] < 400 || got[0]+got[1] != 1000 {
		t.Errorf("picks %d, want the first two nodes to share them", got)
	}
}

// Requests that arrive together must not see the same empty node.
func TestPicksSeeOneAnother(t *testing.T) {
	b, all := New(Options{}), alike(4)
	attempts := make([]Attempt, 40)
	for i := range attempts {
		b.Pick(sec, all, &attempts[i])
	}
	for i := range all {
		if got := all[i].Node.InFlight(); got < 8 || got > 12 { // 11 after 10 is a near tie
			t.Errorf("node %d has %d of 40 requests of one instant", i, got)
		}
	}
}

func TestWeightAndOthersRequestsCount(t *testing.T) {
	b, all := New(Options{}), alike(2)
	all[0].Weight = 3
	attempts := make([]Attempt, 40)
	for i := range attempts {
		b.Pick(sec, all, &attempts[i])
	}
	if got := all[0].Node.InFlight(); got < 28 || got > 32 {
		t.Errorf("a node of weight 3 beside one of weight 1 has %d of 40 requests", got)
	}
	b, all = New(Options{}), alike(2)
	all[0].InFlight = 5 // somebody else's
	if i, _ := pick(b, sec, all); i != 1 {
		t.Error("picked the node that others keep busy")
	}
}

func TestRetryGoesElsewhereWhileItCan(t *testing.T) {
	b, all := ejecting(), alike(3)
	all[0].Tries, all[1].Tries = 1, 1
	for range 100 {
		if i, reason := pick(b, sec, all); i != 2 || reason != Best {
			t.Fatalf("picked %d for %v, want the untried node", i, reason)
		}
	}
	all[2].Down = true
	for range 100 {
		if i, reason := pick(b, sec, all); i == 2 || reason != Retry {
			t.Fatalf("picked %d for %v, want a tried node that is up rather than one that is down", i, reason)
		}
	}
	all[0].Tries, all[1].Tries = 2, 2
	if i, reason := pick(b, sec, all); i != 2 || reason != Panic {
		t.Errorf("picked %d for %v after both healthy nodes failed twice, want the one that is down", i, reason)
	}
}

func TestRetryLeavesItsTierWhenThatIsTried(t *testing.T) {
	b, all := New(Options{}), alike(2)
	all[0].Tries = 1
	all[1].Tier = 2
	if i, reason := pick(b, sec, all); i != 1 || reason != Spill {
		t.Errorf("picked %d for %v, want the backup", i, reason)
	}
}

func TestLastResortIsToTryAnyway(t *testing.T) {
	b, all := ejecting(), alike(3)
	eject(b, sec, all[0].Node)
	all[1].Down = true
	all[2].Down, all[2].Full = true, true
	got := map[int]bool{}
	for range 200 {
		i, reason := pick(b, 2*sec, all)
		got[i] = true
		if reason != Panic {
			t.Fatalf("reason %v", reason)
		}
	}
	if got[2] {
		t.Error("picked a node that is full")
	}
	if !got[1] {
		t.Error("never tried the node that is only said to be down")
	}
	all[0].Full, all[1].Full = true, true
	if i, _ := pick(b, 2*sec, all); i != -1 {
		t.Errorf("picked %d though all are full", i)
	}
	all = alike(2)
	all[0].Down, all[1].Full = true, true
	if i, _ := pick(b, 2*sec, all); i != -1 {
		t.Errorf("picked %d, which is down, because the healthy node is busy", i)
	}
	if i, _ := pick(b, 2*sec, nil); i != -1 {
		t.Errorf("picked %d of none", i)
	}
}

func TestEjectedNodeComesBackByOneProbeAtATime(t *testing.T) {
	var changes []string
	b := New(Options{Breaker: Breaker{Failures: DefaultFailures}, OnChange: func(c Change) {
		changes = append(changes, c.Old.String()+">"+c.New.String())
	}})
	all := alike(2)
	eject(b, sec, all[0].Node)
	for range 100 {
		if i, _ := pick(b, 4*sec, all); i != 1 {
			t.Fatal("picked an ejected node")
		}
	}
	retry := alike(2)
	retry[0].Node, retry[1].Node, retry[1].Tries = all[0].Node, all[1].Node, 1
	if i, reason := pick(b, 8*sec, retry); reason == Probe {
		t.Errorf("a retry was used as a probe (of node %d)", i)
	}

	var probe Attempt
	if i, reason := b.Pick(8*sec, all, &probe); i != 0 || reason != Probe {
		t.Fatalf("picked %d for %v after the ejection, want a probe", i, reason)
	}
	for range 100 {
		if i, _ := pick(b, 8*sec, all); i != 1 {
			t.Fatal("a second request went to a node that is being probed")
		}
	}
	probe.End(9 * sec) // its client left: no verdict
	if i, reason := b.Pick(9*sec, all, &probe); i != 0 || reason != Probe {
		t.Fatalf("picked %d for %v after a probe without verdict, want another", i, reason)
	}
	probe.Answer(9*sec, Served, 0)
	probe.End(9 * sec)
	if s := all[0].Node.State(9*sec, DefaultSlowStart); s != SlowStart {
		t.Errorf("state %v after a successful probe", s)
	}
	pick(b, 60*sec, all)
	want := []string{"up>ejected", "ejected>probing", "ejected>probing", "probing>slow_start", "slow_start>up"}
	if len(changes) != len(want) {
		t.Fatalf("changes %v, want %v", changes, want)
	}
	for i := range want {
		if changes[i] != want[i] {
			t.Fatalf("changes %v, want %v", changes, want)
		}
	}
	if all[0].Node.Ejections() != 1 || all[0].Node.Picks(Probe) != 2 {
		t.Errorf("%d ejections, %d probes", all[0].Node.Ejections(), all[0].Node.Picks(Probe))
	}
}

func TestBackupIsProbedBeforeItIsNeeded(t *testing.T) {
	b, all := ejecting(), alike(2)
	all[1].Tier = 2
	eject(b, sec, all[1].Node)
	if i, reason := pick(b, 10*sec, all); i != 1 || reason != Probe {
		t.Errorf("picked %d for %v, want a probe of the backup", i, reason)
	}
}

func TestBusyIsNeverEjected(t *testing.T) {
	b, all := ejecting(), alike(2)
	for range 100 {
		var a Attempt
		b.Pick(sec, all[:1], &a)
		a.Answer(sec, Busy, 2*sec)
		a.End(sec)
	}
	if s := all[0].Node.State(sec, DefaultSlowStart); s != Up {
		t.Errorf("a busy node is %v", s)
	}
	if i, _ := pick(b, sec, all); i != 1 {
		t.Error("a busy node is still preferred")
	}
}

func TestAnswerBrokenOffCountsTowardsEjection(t *testing.T) {
	b, all := ejecting(), alike(1)
	for range DefaultFailures {
		var a Attempt
		b.Pick(sec, all, &a)
		a.Answer(sec, Alive, 0)
		a.Break(sec)
		a.End(sec)
	}
	if s := all[0].Node.State(sec, DefaultSlowStart); s != Ejected {
		t.Errorf("a node that breaks off every answer is %v", s)
	}
}

func TestExplanationNamesTheFactors(t *testing.T) {
	b, all := New(Options{}), alike(3)
	all[0].Weight = 2
	all[1].InFlight = 3
	all[2].Down = true
	got := b.Explain(sec, all)
	for i, want := range []Explanation{
		{State: Up, Factors: Factors{Latency: 0.030, Slowdown: 1, Load: 1, Knee: 2, Weight: 2, Warmth: 1}, Score: 0.027},
		{State: Up, Factors: Factors{Latency: 0.030, Slowdown: 1, Load: 4, Knee: 1, Weight: 1, Warmth: 1}, Score: 0.120},
		{State: Down, Factors: Factors{Latency: 0.030, Slowdown: 1, Load: 1, Knee: 1, Weight: 1, Warmth: 1}, Score: 0.030},
	} {
		want.Addr = all[i].Node.Addr()
		if got[i].State != want.State || got[i].Factors != want.Factors || !near(got[i].Score, want.Score, 1e-9) || got[i].Addr != want.Addr {
			t.Errorf("node %d: %+v, want %+v", i, got[i], want)
		}
	}
}
