package balance

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A discrete-event simulator in virtual time: Poisson arrivals, nodes with a
// number of slots and a FIFO queue before them, lognormal service times. It
// replays minutes in milliseconds, and the same seed gives the same run.

// simNode is a node's nature. Functions of time may be nil.
type simNode struct {
	slots   int
	service time.Duration                   // mean
	slowed  func(now time.Duration) float64 // factor on service, nil: 1
	fate    func(now time.Duration) fate    // nil: fine
	weight  float64                         // 0: 1
	tier    int                             // 0: 1
}

type fate uint8

const (
	fine    fate = iota
	failing      // answers 500 after 1 ms
	dead         // refuses connections at once
	hung         // accepts and never answers; the gateway gives up after simTimeout
)

const (
	simTimeout = 2 * time.Second
	simSigma   = 0.5 // of the lognormal service time
)

type scenario struct {
	nodes    []simNode
	rate     float64 // requests per second
	length   time.Duration
	gateways int // 0: 1
	retries  int
	seed     uint64
}

// policy is what is compared. Each gateway has its own.
type policy interface {
	// pick returns a node and how to report its verdict. tries counts the
	// attempts of this request per node.
	pick(now time.Duration, tries []int) (node int, done func(now time.Duration, v Verdict))
}

type served struct {
	arrived, latency time.Duration
	node             int // of the last attempt
	ok               bool
}

type pickOf struct {
	at   time.Duration
	node int
}

type result struct {
	requests []served
	picks    []pickOf
}

type event struct {
	at  time.Duration
	seq int
	run func(now time.Duration)
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

type simulation struct {
	scenario
	rng    *rand.Rand
	queue  events
	seq    int
	busy   []int
	wait   [][]func(now time.Duration)
	result result
}

// simulate runs the scenario with a policy per gateway.
func simulate(s scenario, newPolicy func(s scenario, gateway int) policy) result {
	m := &simulation{
		scenario: s,
		rng:      rand.New(rand.NewPCG(s.seed, 1)),
		busy:     make([]int, len(s.nodes)),
		wait:     make([][]func(time.Duration), len(s.nodes)),
	}
	var gateways []policy
	for g := range max(1, s.gateways) {
		gateways = append(gateways, newPolicy(s, g))
	}
	var arrive func(now time.Duration)
	arrive = func(now time.Duration) {
		m.attempt(now, now, gateways[m.rng.IntN(len(gateways))], make([]int, len(s.nodes)), s.retries)
		if next := now + time.Duration(m.rng.ExpFloat64()/s.rate*float64(time.Second)); next < s.length {
			m.at(next, arrive)
		}
	}
	m.at(time.Millisecond, arrive)
	for len(m.queue) > 0 {
		e := heap.Pop(&m.queue).(event)
		e.run(e.at)
	}
	return m.result
}

func (m *simulation) at(t time.Duration, run func(time.Duration)) {
	m.seq++
	heap.Push(&m.queue, event{t, m.seq, run})
}

func (m *simulation) attempt(now, arrived time.Duration, p policy, tries []int, retries int) {
	i, done := p.pick(now, tries)
	m.result.picks = append(m.result.picks, pickOf{now, i})
	tries[i]++
	end := func(now time.Duration, v Verdict) {
		done(now, v)
		if v == Failed && retries > 0 {
			m.attempt(now, arrived, p, tries, retries-1)
			return
		}
		m.result.requests = append(m.result.requests, served{arrived, now - arrived, i, v == Served})
	}
	n := m.nodes[i]
	state := fine
	if n.fate != nil {
		state = n.fate(now)
	}
	switch state {
	case failing:
		m.at(now+time.Millisecond, func(now time.Duration) { end(now, Failed) })
	case dead:
		m.at(now+100*time.Microsecond, func(now time.Duration) { end(now, Failed) })
	case hung:
		m.at(now+simTimeout, func(now time.Duration) { end(now, Failed) })
	default:
		m.serve(i, now, func(now time.Duration) { end(now, Served) })
	}
}

func (m *simulation) serve(i int, now time.Duration, end func(time.Duration)) {
	if m.busy[i] == m.nodes[i].slots {
		m.wait[i] = append(m.wait[i], end)
		return
	}
	m.start(i, now, end)
}

func (m *simulation) start(i int, now time.Duration, end func(time.Duration)) {
	m.busy[i]++
	n := m.nodes[i]
	mean := n.service.Seconds()
	if n.slowed != nil {
		mean *= n.slowed(now)
	}
	took := mean * math.Exp(simSigma*m.rng.NormFloat64()-simSigma*simSigma/2)
	m.at(now+time.Duration(took*float64(time.Second)), func(now time.Duration) {
		m.busy[i]--
		if len(m.wait[i]) > 0 {
			next := m.wait[i][0]
			m.wait[i] = m.wait[i][1:]
			m.start(i, now, next)
		}
		end(now)
	})
}

// percentile returns the p-th percentile of the latencies of requests that
// arrived within [from, to).
func (r result) percentile(p float64, from, to time.Duration) time.Duration {
	var all []time.Duration
	for _, q := range r.requests {
		if q.arrived >= from && q.arrived < to {
			all = append(all, q.latency)
		}
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(p/100*float64(len(all))))]
}

// share returns the share of picks in [from, to) that went to the node.
func (r result) share(node int, from, to time.Duration) float64 {
	n, all := 0, 0
	for _, p := range r.picks {
		if p.at >= from && p.at < to {
			all++
			if p.node == node {
				n++
			}
		}
	}
	return float64(n) / float64(all)
}

// failed returns how many requests failed for good.
func (r result) failed() (n int) {
	for _, q := range r.requests {
		if !q.ok {
			n++
		}
	}
	return n
}

// --- policies

type roundRobin struct{ n, next int }

func newRoundRobin(s scenario, _ int) policy { return &roundRobin{n: len(s.nodes)} }

func (p *roundRobin) pick(time.Duration, []int) (int, func(time.Duration, Verdict)) {
	p.next = (p.next + 1) % p.n
	return p.next, func(time.Duration, Verdict) {}
}

// leastConn is Caddy's least_conn.
type leastConn struct {
	inFlight []int
	rng      *rand.Rand
}

func newLeastConn(s scenario, gateway int) policy {
	return &leastConn{make([]int, len(s.nodes)), rand.New(rand.NewPCG(s.seed, uint64(gateway)+100))}
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

// gpu is this package.
type gpu struct {
	balancer   *Balancer
	candidates []Candidate
}

func newGPU(s scenario, gateway int) policy {
	return newGPUWith(s, gateway, Options{Breaker: Breaker{Failures: DefaultFailures}})
}

func newGPUWith(s scenario, gateway int, o Options) *gpu {
	o.Seed = s.seed + uint64(gateway)
	p := &gpu{balancer: New(o)}
	for range s.nodes {
		p.candidates = append(p.candidates, Candidate{Node: NewNode("node"), Weight: 1, Tier: 1})
	}
	for i, n := range s.nodes {
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
