package balance

import (
	"math/rand/v2"
	"time"
)

// The policies that the simulator compares.

type roundRobin struct{ n, next int }

func newRoundRobin(m *simulation, _ int) policy { return &roundRobin{n: len(m.nodes)} }

func (p *roundRobin) pick(time.Duration, []int) (int, func(time.Duration, Verdict)) {
	p.next = (p.next + 1) % p.n
	return p.next, func(time.Duration, Verdict) {}
}

// leastConn is Caddy's least_conn.
type leastConn struct {
	inFlight []int
	rng      *rand.Rand
}

func newLeastConn(m *simulation, gateway int) policy {
	return &leastConn{make([]int, len(m.nodes)), rand.New(rand.NewPCG(m.seed, uint64(gateway)+100))}
}

func (p *leastConn) pick(time.Duration, []int) (int, func(time.Duration, Verdict)) {
	best, ties := 0, 0
	for i, n := range p.inFlight {
		if n < p.inFlight[best] {
			best, ties = i, 0
		}
		if n == p.inFlight[best] {
			if ties++; p.rng.IntN(ties) == 0 {
				best = i
			}
		}
	}
	p.inFlight[best]++
	return best, func(time.Duration, Verdict) { p.inFlight[best]-- }
}

// omniscient is the bound: it sees what is under way at each node on behalf of
// every gateway, how many slots it has and how fast it is this instant, and
// sends each request to where its expected completion is nearest. It does not
// know how long a request will take, no more than a node does.
type omniscient struct{ m *simulation }

func newOmniscient(m *simulation, _ int) policy { return &omniscient{m} }

func (p *omniscient) pick(now time.Duration, tries []int) (int, func(time.Duration, Verdict)) {
	best, least := 0, 0.0
	for i, n := range p.m.nodes {
		ahead := p.m.busy[i] + len(p.m.wait[i])
		expected := p.m.mean(i, now) * (1 + max(0, float64(ahead-n.slots+1)/float64(n.slots)))
		expected += 1000 * float64(tries[i])
		if n.fate != nil && n.fate(now) != fine {
			expected += 1e6
		}
		if i == 0 || expected < least {
			best, least = i, expected
		}
	}
	return best, func(time.Duration, Verdict) {}
}

// gpu is this package.
type gpu struct {
	balancer   *Balancer
	candidates []Candidate
	interval   time.Duration // of telemetry
}

func newGPU(m *simulation, gateway int) policy {
	return newGPUWith(m, gateway, Options{Breaker: Breaker{Failures: DefaultFailures}})
}

func newGPUWith(m *simulation, gateway int, o Options) *gpu {
	o.Seed = m.seed + uint64(gateway)
	p := &gpu{balancer: New(o), interval: m.telemetry.interval}
	for range m.nodes {
		p.candidates = append(p.candidates, Candidate{Node: NewNode("node"), Weight: 1, Tier: 1})
	}
	for i, n := range m.nodes {
		if n.weight != 0 {
			p.candidates[i].Weight = n.weight
		}
		if n.tier != 0 {
			p.candidates[i].Tier = n.tier
		}
	}
	return p
}

func (p *gpu) pick(now time.Duration, tries []int) (int, func(time.Duration, Verdict)) {
	for i := range p.candidates {
		p.candidates[i].Tries = tries[i]
	}
	a := new(Attempt)
	i, _ := p.balancer.Pick(now, p.candidates, a)
	return i, func(now time.Duration, v Verdict) {
		a.Answer(now, v, 0)
		a.End(now)
	}
}

func (p *gpu) hear(now, measured time.Duration, node int, utilization float64) {
	r := Report{At: measured, Interval: p.interval}
	r.Set(Utilization, utilization)
	p.candidates[node].Node.Hear(now, r)
}
