package balance

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// What the policy buys, in the simulator of sim_test.go, against round robin
// and Caddy's least_conn in the same scenario and with the same seed.

// during returns a fate that holds within [from, to).
func during(from, to time.Duration, what fate) func(time.Duration) fate {
	return func(now time.Duration) fate {
		if now >= from && now < to {
			return what
		}
		return fine
	}
}

// unequal are four nodes with capacities of 25, 25, 80 and 267 requests/s.
func unequal() []simNode {
	return []simNode{
		{slots: 2, service: 80 * ms},
		{slots: 2, service: 80 * ms},
		{slots: 4, service: 50 * ms},
		{slots: 8, service: 30 * ms},
	}
}

// equal are n nodes with a capacity of 100 requests/s each.
func equal(n int) []simNode {
	nodes := make([]simNode, n)
	for i := range nodes {
		nodes[i] = simNode{slots: 4, service: 40 * ms}
	}
	return nodes
}

// compare runs a scenario with the three policies.
func compare(s scenario) (rr, lc, gpu result) {
	s.seed = 7
	return simulate(s, newRoundRobin), simulate(s, newLeastConn), simulate(s, newGPU)
}

// better fails the test unless got is at most ratio times the other.
func better(t *testing.T, what string, got, other time.Duration, ratio float64) {
	t.Helper()
	t.Logf("%s: %v against %v (%.2f)", what, got.Round(ms), other.Round(ms), float64(got)/float64(other))
	if float64(got) > ratio*float64(other) {
		t.Errorf("%s: %v against %v, want at most %.2f times", what, got, other, ratio)
	}
}

// median returns the median p99 of the scenario over seeds, for requests that
// arrived within [from, to).
func median(s scenario, p func(m *simulation, gateway int) policy, from, to time.Duration) time.Duration {
	var all []time.Duration
	seeds := uint64(7)
	if racing {
		seeds = 1
	}
	for seed := range seeds {
		s.seed = seed + 2
		all = append(all, simulate(s, p).percentile(99, from, to))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func TestUnequalNodesNeedNoWeights(t *testing.T) {
	for _, test := range []struct {
		gateways int
		rate     float64 // of 397 requests/s
		ratio    float64 // to the omniscient scheduler
	}{{1, 278, 1.15}, {4, 278, 1.15}, {1, 357, 1.25}, {4, 357, 1.25}} {
		s := scenario{nodes: unequal(), rate: test.rate, length: 2 * time.Minute, gateways: test.gateways}
		p99 := median(s, newGPU, 10*sec, s.length)
		what := fmt.Sprintf("p99 with %d gateways at %.0f %% load to ", test.gateways, test.rate/3.97)
		better(t, what+"the omniscient scheduler", p99, median(s, newOmniscient, 10*sec, s.length), test.ratio)
		better(t, what+"least_conn", p99, median(s, newLeastConn, 10*sec, s.length), 0.5)
		better(t, what+"round robin", p99, median(s, newRoundRobin, 10*sec, s.length), 0.01)
	}
}

// What the knee buys: without it every node is a single worker, and the score
// is the latency × in flight of Finagle, nginx and Traefik.
func TestKneeIsWhatMakesWeightsUnnecessary(t *testing.T) {
	for rate, ratio := range map[float64]float64{278: 0.92, 357: 0.92} {
		s := scenario{nodes: unequal(), rate: rate, length: 2 * time.Minute}
		if racing {
			ratio = 1 // of one seed
		}
		blunt := func(m *simulation, g int) policy { return &kneeless{newGPU(m, g).(*gpu)} }
		better(t, fmt.Sprintf("p99 at %.0f %% load with to without the knee", rate/3.97),
			median(s, newGPU, 10*sec, s.length), median(s, blunt, 10*sec, s.length), ratio)
	}
}

// kneeless forgets the knee before each pick.
type kneeless struct{ *gpu }

func (p *kneeless) pick(now time.Duration, tries []int) (int, func(time.Duration, Verdict)) {
	for i := range p.candidates {
		p.candidates[i].Node.knee.forget()
	}
	return p.gpu.pick(now, tries)
}

// A weight stands in for the knee until that is learned, and does no harm after.
func TestWeightsHelpAtFirst(t *testing.T) {
	without := scenario{nodes: unequal(), rate: 278, length: 2 * time.Minute}
	with := scenario{nodes: unequal(), rate: 278, length: 2 * time.Minute}
	for i, w := range []float64{25, 25, 80, 267} {
		with.nodes[i].weight = w
	}
	better(t, "p99 of the first 3 s with weights to without", median(with, newGPU, 0, 3*sec), median(without, newGPU, 0, 3*sec), 0.95)
	better(t, "p99 later", median(with, newGPU, 10*sec, with.length), median(without, newGPU, 10*sec, with.length), 1.05)
}

// Nodes that are alike share what none is too busy for as their weights say.
func TestWeightsShareOutNearTies(t *testing.T) {
	nodes := equal(2)
	nodes[0].weight, nodes[1].weight = 10, 5
	s := scenario{nodes: nodes, rate: 60, length: 5 * time.Minute, seed: 7}
	if share := simulate(s, newGPU).share(0, 10*sec, s.length); share < 0.55 || share > 0.75 {
		t.Errorf("of two nodes alike with weights 10 and 5, at a third of what they can do, the first got %.0f %%", 100*share)
	}
}

func TestSlowedNodeIsLeftAlone(t *testing.T) {
	for _, gateways := range []int{1, 4} {
		s := scenario{nodes: equal(3), rate: 150, length: 3 * time.Minute, gateways: gateways}
		s.nodes[0].slowed = func(now time.Duration) float64 {
			if now >= time.Minute && now < 2*time.Minute {
				return 5
			}
			return 1
		}
		rr, lc, gpu := compare(s)
		p99 := gpu.percentile(99, time.Minute, 2*time.Minute)
		better(t, "p99 to round robin", p99, rr.percentile(99, time.Minute, 2*time.Minute), 0.05)
		better(t, "p99 to least_conn", p99, lc.percentile(99, time.Minute, 2*time.Minute), 0.6)
		if share := gpu.share(0, 2*time.Minute+15*sec, 3*time.Minute); share < 0.25 {
			t.Errorf("after its recovery the node gets %.0f %% of what a third node should get", 300*share)
		}
	}
}

func TestNodeFailingFastDrawsNoTraffic(t *testing.T) {
	s := scenario{nodes: equal(3), rate: 150, length: 3 * time.Minute}
	s.nodes[0].fate = during(time.Minute, 2*time.Minute, failing)
	_, lc, gpu := compare(s)
	t.Logf("failed requests: %d, least_conn %d", gpu.failed(), lc.failed())
	if gpu.failed() > 20 || lc.failed() < 100*gpu.failed() {
		t.Errorf("%d requests failed, least_conn lost %d", gpu.failed(), lc.failed())
	}
	if share := gpu.share(0, time.Minute+sec, 2*time.Minute); share > 0.01 {
		t.Errorf("the failing node got %.1f %% of picks after its ejection", 100*share)
	}
	if share := lc.share(0, time.Minute+sec, 2*time.Minute); share < 0.5 {
		t.Errorf("least_conn gave the failing node %.1f %%: the scenario shows nothing", 100*share)
	}
}

// Without ejection, counting a failure as a slow answer must be enough to
// keep the failing node from winning every pick.
func TestFailureAsSlownessAloneAvoidsTheSinkhole(t *testing.T) {
	s := scenario{nodes: equal(3), rate: 150, length: 2 * time.Minute, seed: 7}
	s.nodes[0].fate = during(time.Minute, 2*time.Minute, failing)
	off := simulate(s, func(m *simulation, g int) policy { return newGPUWith(m, g, Options{}) })
	if share := off.share(0, time.Minute+sec, 2*time.Minute); share > 0.02 {
		t.Errorf("with `eject off` the failing node got %.1f %% of picks", 100*share)
	}
}

func TestDeadNodeCostsNoRetriedRequest(t *testing.T) {
	s := scenario{nodes: equal(3), rate: 150, length: 3 * time.Minute, retries: 2}
	s.nodes[0].fate = during(time.Minute, 2*time.Minute, dead)
	_, _, gpu := compare(s)
	if gpu.failed() != 0 {
		t.Errorf("%d requests failed though two nodes were well", gpu.failed())
	}
	// Ejections double, so the last may reach far beyond the recovery.
	if share := gpu.share(0, 2*time.Minute+50*sec, 3*time.Minute); share < 0.28 {
		t.Errorf("the node got %.1f %% of picks when it was long back", 100*share)
	}
}

func TestHungNodeHoldsUpFew(t *testing.T) {
	s := scenario{nodes: equal(3), rate: 150, length: 3 * time.Minute, retries: 2}
	s.nodes[0].fate = during(time.Minute, 2*time.Minute, hung)
	_, lc, gpu := compare(s)
	held := func(r result) (n int) {
		for _, q := range r.requests {
			if q.latency >= simTimeout {
				n++
			}
		}
		return n
	}
	t.Logf("held up until the timeout: %d, least_conn %d", held(gpu), held(lc))
	if gpu.failed() != 0 || held(gpu) > 15 || held(lc) < 10*held(gpu) {
		t.Errorf("%d failed, %d held up, least_conn held up %d", gpu.failed(), held(gpu), held(lc))
	}
	// Not one pick while a first request is unanswered for long.
	for _, p := range gpu.picks {
		if p.node == 0 && p.at > time.Minute+sec && p.at < time.Minute+4*sec {
			t.Errorf("picked the hung node %v after it hung", p.at-time.Minute)
		}
	}
}

// Two regions: half of the first is lost, then all of it, then it is back.
func TestTiersSpillAndReturn(t *testing.T) {
	nodes := equal(4)
	for i := range nodes {
		nodes[i].tier = 1 + i/2
	}
	nodes[0].fate = during(time.Minute, 3*time.Minute, dead)
	nodes[1].fate = during(2*time.Minute, 3*time.Minute, dead)
	_, _, gpu := compare(scenario{nodes: nodes, rate: 100, length: 8 * time.Minute, retries: 3})
	second := func(from, to time.Duration) float64 { return gpu.share(2, from, to) + gpu.share(3, from, to) }
	for _, phase := range []struct {
		name     string
		from, to time.Duration
		low, max float64
	}{
		{"all well", 0, time.Minute, 0, 0},
		{"one of two lost", time.Minute + 2*sec, 2 * time.Minute, 0.25, 0.35},
		{"both lost", 2*time.Minute + 2*sec, 3 * time.Minute, 0.97, 1},
		{"back", 6 * time.Minute, 8 * time.Minute, 0, 0},
	} {
		if got := second(phase.from, phase.to); got < phase.low || got > phase.max {
			t.Errorf("%s: the second tier got %.1f %%, want %.0f to %.0f", phase.name, 100*got, 100*phase.low, 100*phase.max)
		}
	}
	if gpu.failed() != 0 {
		t.Errorf("%d requests failed", gpu.failed())
	}
	better(t, "p99 over all of it to p99 of the quiet first minute",
		gpu.percentile(99, 0, 8*time.Minute), gpu.percentile(99, 0, time.Minute), 1.3)
}

func TestSimulationReplaysExactly(t *testing.T) {
	s := scenario{nodes: unequal(), rate: 278, length: 20 * sec, gateways: 2, seed: 3}
	a, b := simulate(s, newGPU), simulate(s, newGPU)
	if len(a.picks) != len(b.picks) {
		t.Fatalf("%d picks, then %d", len(a.picks), len(b.picks))
	}
	for i := range a.picks {
		if a.picks[i] != b.picks[i] {
			t.Fatalf("pick %d differs: %v, then %v", i, a.picks[i], b.picks[i])
		}
	}
}

// An hour with everything in it, in seconds: nothing is lost while any node can
// serve, and the tail stays near that of a scheduler that knows it all.
func TestAnHourOfTrouble(t *testing.T) {
	nodes := make([]simNode, 6)
	for i := range nodes {
		nodes[i] = simNode{slots: 2 + i%3, service: time.Duration(20+10*(i%2)) * ms, tier: 1 + i/4}
	}
	often := func(every, phase, length time.Duration) func(time.Duration) bool {
		return func(now time.Duration) bool { return (now+phase)%every < length }
	}
	dies, hangs, fails := often(11*time.Minute, 3*time.Minute, 40*sec), often(13*time.Minute, 7*time.Minute, 20*sec), often(9*time.Minute, 2*time.Minute, 30*sec)
	fates := func(what fate, when func(time.Duration) bool) func(time.Duration) fate {
		return func(now time.Duration) fate {
			if when(now) {
				return what
			}
			return fine
		}
	}
	nodes[0].fate, nodes[1].fate, nodes[2].fate = fates(dead, dies), fates(hung, hangs), fates(failing, fails)
	nodes[3].cotenant = tenant(0.85, 3*time.Minute)
	s := scenario{nodes: nodes, rate: 120, length: time.Hour, gateways: 3, retries: 3, telemetry: each(sec), seed: 7}
	if racing {
		s.length /= 4
	}
	got := simulate(s, newGPU)
	if got.failed() != 0 {
		t.Errorf("%d of %d requests were lost", got.failed(), len(got.requests))
	}
	held := 0
	for _, q := range got.requests {
		if q.latency >= simTimeout {
			held++
		}
	}
	t.Logf("%d requests, %d of them held up by the node that hangs", len(got.requests), held)
	if held > len(got.requests)/2000 {
		t.Errorf("%d of %d requests were held up", held, len(got.requests))
	}
	better(t, "p99 to the omniscient scheduler", got.percentile(99, 10*sec, s.length), simulate(s, newOmniscient).percentile(99, 10*sec, s.length), 1.5)
}
