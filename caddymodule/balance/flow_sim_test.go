//go:build !race

// One goroutine in virtual time: nothing races, and with the race detector it
// takes ten times as long. The tests without cgo run it.

package balance

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A second simulator in virtual time, for what lies between the gateways and
// the nodes: limits per node, a queue per gateway, and nodes of three natures.
// The first (sim_test.go) compares choices among nodes; this one, how much is
// sent to them at all.

type flowKind uint8

const (
	fifo     flowKind = iota // slots workers, the rest waits in order
	sharing                  // all requests at once; beyond slots they slow each other down
	batching                 // one pass at a time takes up to slots requests, and waits for them
	eager                    // the same, but it waits for nobody
)

func (k flowKind) String() string { return [...]string{"fifo", "sharing", "batching", "eager"}[k] }

// flowNature is what a node is like. A pass of a batching node takes 0.8 of
// service for one request and all of it for a full batch; it waits a tenth of
// service for the batch to fill, unless it is eager: then the knee is at two
// full batches, for one waits while the other is under way.
type flowNature struct {
	kind    flowKind
	slots   int
	service time.Duration // mean
	sigma   float64       // of the lognormal service time; a pass takes the mean of its requests'
	slowed  func(now time.Duration) float64
	slotsAt func(now time.Duration) int // nil: slots
	long    float64                     // share of requests that are ten times as long
}

func (n *flowNature) room(now time.Duration) int {
	if n.slotsAt != nil {
		return n.slotsAt(now)
	}
	return n.slots
}

func (n *flowNature) speed(now time.Duration) float64 {
	if n.slowed != nil {
		return 1 / n.slowed(now)
	}
	return 1
}

// flowLimit is what is compared: a node's limit as one gateway keeps it.
type flowLimit interface {
	limit(now time.Duration) int
	done(now, began time.Duration, inFlight int, v Verdict)
}

// flowQueue is where a gateway's requests wait.
type flowQueue interface {
	push(now time.Duration, r *flowRequest) // may call r.reject, at once or later
	pop(now time.Duration) *flowRequest     // nil when nobody waits
	answered(now, took time.Duration)
}

type flowRequest struct {
	arrived time.Duration
	urgency Urgency
	reject  func(now time.Duration)
}

type flowScenario struct {
	nodes    []flowNature
	gateways int
	rate     func(now time.Duration) float64 // of all gateways together; nil: there is always a next request
	join     func(gateway int) time.Duration // when a gateway's load begins
	length   time.Duration
	newLimit func(gateway, node int) flowLimit
	newQueue func(gateway int) flowQueue
	urgency  func(u float64) Urgency // of a request that drew u
	balanced bool                    // by Balancer.Pick, instead of the node that is least full
	late     bool                    // which knows of the line, and may prefer to wait
	seed     uint64
}

type flowServed struct {
	arrived, ended time.Duration
	gateway, node  int
	urgency        Urgency
	ok             bool
}

type flowResult struct {
	requests []flowServed
	// Of each gateway and node, the limit and what was in flight, every 10 ms
	// or thousandth of the run.
	every  time.Duration
	limits [][]float64 // by sample, then gateway*nodes+node
	flying [][]float64
}

type flowSim struct {
	flowScenario
	rng    *rand.Rand
	events events
	seq    int
	nodes  []*flowNode
	gates  []*flowGate
	result flowResult
}

type flowGate struct {
	limits []flowLimit
	flying []int
	queue  flowQueue
	rng    *rand.Rand
	open   bool
	gpu    *gpu // if balanced
}

type flowJob struct {
	work float64 // seconds left at speed 1
	end  func(now time.Duration)
}

type flowNode struct {
	*flowNature
	sim     *flowSim
	running []*flowJob // of a sharing node: all
	waiting []*flowJob
	busy    int
	at      time.Duration // when a sharing node's work was last counted
	version int           // of the event for its next completion
	gather  bool
}

func flowRun(s flowScenario) flowResult {
	m := &flowSim{flowScenario: s, rng: rand.New(rand.NewPCG(s.seed, 77))}
	for i := range s.nodes {
		m.nodes = append(m.nodes, &flowNode{flowNature: &s.nodes[i], sim: m})
	}
	for g := range max(1, s.gateways) {
		gate := &flowGate{flying: make([]int, len(s.nodes)), rng: rand.New(rand.NewPCG(s.seed, uint64(g)))}
		for i := range s.nodes {
			gate.limits = append(gate.limits, s.newLimit(g, i))
		}
		if s.newQueue != nil {
			gate.queue = s.newQueue(g)
		}
		if s.balanced {
			o := Options{Breaker: Breaker{Failures: DefaultFailures}}
			if s.late {
				o.Backlog = func() time.Duration { return gate.queue.(*lineQueue).backlog() }
			}
			gate.gpu = newGPUWith(&simulation{scenario: scenario{nodes: make([]simNode, len(s.nodes)), seed: s.seed}}, g, o)
		}
		m.gates = append(m.gates, gate)
		begin := time.Second
		if s.join != nil {
			begin += s.join(g)
		}
		m.at(begin, func(now time.Duration) {
			gate.open = true
			if s.rate == nil {
				m.fill(now, g)
				return
			}
			m.arrivals(now, g)
		})
	}
	m.result.every = max(10*time.Millisecond, s.length/1000)
	m.at(time.Second, m.sample)
	for len(m.events) > 0 {
		e := heap.Pop(&m.events).(event)
		if e.at > s.length && (s.rate == nil || e.at > s.length+time.Minute) {
			break
		}
		e.run(e.at)
	}
	return m.result
}

func (m *flowSim) at(t time.Duration, run func(time.Duration)) {
	m.seq++
	heap.Push(&m.events, event{t, m.seq, run})
}

func (m *flowSim) sample(now time.Duration) {
	var limits, flying []float64
	for _, g := range m.gates {
		for i, l := range g.limits {
			limits = append(limits, float64(l.limit(now)))
			flying = append(flying, float64(g.flying[i]))
		}
	}
	m.result.limits = append(m.result.limits, limits)
	m.result.flying = append(m.result.flying, flying)
	if now < m.length {
		m.at(now+m.result.every, m.sample)
	}
}

// arrivals is a Poisson process by thinning: candidates at a rate that is
// never exceeded within the next step.
func (m *flowSim) arrivals(now time.Duration, g int) {
	rate := m.rate(now) / float64(len(m.gates))
	next := now + time.Duration(m.gates[g].rng.ExpFloat64()/max(rate, 1e-3)*float64(time.Second))
	if step := now + 50*time.Millisecond; next > step { // the rate may have changed by then; the process has no memory
		m.at(step, func(now time.Duration) { m.again(now, g) })
		return
	}
	m.at(next, func(now time.Duration) {
		m.arrive(now, g)
		m.again(now, g)
	})
}

func (m *flowSim) again(now time.Duration, g int) {
	if now < m.length {
		m.arrivals(now, g)
	}
}

func (m *flowSim) arrive(now time.Duration, g int) {
	r := &flowRequest{arrived: now, urgency: DefaultUrgency}
	if m.urgency != nil {
		r.urgency = m.urgency(m.gates[g].rng.Float64())
	}
	r.reject = func(now time.Duration) {
		m.result.requests = append(m.result.requests, flowServed{arrived: r.arrived, ended: now, gateway: g, node: -1, urgency: r.urgency})
	}
	m.gates[g].queue.push(now, r)
	m.fill(now, g)
}

// fill starts requests while a node has room.
func (m *flowSim) fill(now time.Duration, g int) {
	gate := m.gates[g]
	for gate.open && (m.rate != nil || now < m.length) {
		a := new(Attempt)
		node := m.pick(now, gate, a)
		if node < 0 {
			return
		}
		r := &flowRequest{arrived: now, urgency: DefaultUrgency}
		if m.rate != nil {
			if r = gate.queue.pop(now); r == nil {
				if gate.gpu != nil {
					a.End(now)
				}
				return
			}
		}
		m.start(now, g, node, r, a)
	}
}

// pick returns a node below its limit, -1 if there is none: the one that the
// balancer wants, or else the least full, by lot among equals.
func (m *flowSim) pick(now time.Duration, gate *flowGate, a *Attempt) int {
	if gate.gpu != nil {
		for i := range m.nodes {
			gate.gpu.candidates[i].Limit = gate.limits[i].limit(now)
		}
		i, _ := gate.gpu.balancer.Pick(now, gate.gpu.candidates, a)
		return i
	}
	best, least, ties := -1, math.Inf(1), 0
	for i := range m.nodes {
		limit := gate.limits[i].limit(now)
		if gate.flying[i] >= limit {
			continue
		}
		switch full := float64(gate.flying[i]+1) / float64(limit); {
		case full < least:
			best, least, ties = i, full, 1
		case full == least:
			if ties++; gate.rng.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}

func (m *flowSim) start(now time.Duration, g, i int, r *flowRequest, a *Attempt) {
	gate, n := m.gates[g], m.nodes[i]
	gate.flying[i]++
	inFlight := gate.flying[i]
	work := math.Exp(n.sigma*m.rng.NormFloat64() - n.sigma*n.sigma/2)
	if n.long > 0 {
		work /= 1 + 9*n.long
		if m.rng.Float64() < n.long {
			work *= 10
		}
	}
	n.add(now, &flowJob{work: work * n.service.Seconds(), end: func(end time.Duration) {
		gate.flying[i]--
		if gate.gpu != nil {
			a.Answer(end, Served, 0)
			a.End(end)
		}
		gate.limits[i].done(end, now, inFlight, Served)
		if gate.queue != nil {
			gate.queue.answered(end, end-now)
		}
		m.result.requests = append(m.result.requests, flowServed{r.arrived, end, g, i, r.urgency, true})
		m.fill(end, g)
	}})
}

func (n *flowNode) add(now time.Duration, j *flowJob) {
	switch n.kind {
	case fifo:
		n.waiting = append(n.waiting, j)
		n.serve(now)
	case sharing:
		n.progress(now)
		n.running = append(n.running, j)
		n.schedule(now)
	case batching, eager:
		n.waiting = append(n.waiting, j)
		n.pass(now, false)
	}
}

func (n *flowNode) serve(now time.Duration) {
	for n.busy < n.room(now) && len(n.waiting) > 0 {
		j := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.busy++
		n.sim.at(now+seconds(j.work/n.speed(now)), func(now time.Duration) {
			n.busy--
			n.serve(now)
			j.end(now)
		})
	}
}

// pass starts a pass of a batching node.
func (n *flowNode) pass(now time.Duration, gathered bool) {
	room := n.room(now)
	if n.busy > 0 || len(n.waiting) == 0 {
		return
	}
	if n.kind == batching && len(n.waiting) < room && !gathered {
		if !n.gather {
			n.gather = true
			n.sim.at(now+n.service/10, func(now time.Duration) {
				if n.gather {
					n.gather = false
					n.pass(now, true)
				}
			})
		}
		return
	}
	n.gather = false
	batch := n.waiting[:min(room, len(n.waiting))]
	n.waiting = n.waiting[len(batch):]
	n.busy = 1
	work := 0.0
	for _, j := range batch {
		work += j.work / float64(len(batch))
	}
	took := work / n.speed(now) * (0.8 + 0.2*float64(len(batch))/float64(room))
	n.sim.at(now+seconds(took), func(now time.Duration) {
		n.busy = 0
		n.pass(now, false)
		for _, j := range batch {
			j.end(now)
		}
	})
}

// each is a sharing node's speed for each of its requests.
func (n *flowNode) each(now time.Duration) float64 {
	return n.speed(now) * min(1, float64(n.room(now))/float64(len(n.running)))
}

func (n *flowNode) progress(now time.Duration) {
	if len(n.running) > 0 {
		done := (now - n.at).Seconds() * n.each(n.at)
		for _, j := range n.running {
			j.work -= done
		}
	}
	n.at = now
}

func (n *flowNode) schedule(now time.Duration) {
	n.version++
	if len(n.running) == 0 {
		return
	}
	least := n.running[0]
	for _, j := range n.running[1:] {
		if j.work < least.work {
			least = j
		}
	}
	version := n.version
	n.sim.at(now+max(1, seconds(least.work/n.each(now))), func(now time.Duration) {
		if version != n.version {
			return
		}
		n.progress(now)
		var ended []*flowJob
		n.running = slices.DeleteFunc(n.running, func(j *flowJob) bool {
			if j.work < 1e-8 {
				ended = append(ended, j)
				return true
			}
			return false
		})
		n.schedule(now)
		for _, j := range ended {
			j.end(now)
		}
	})
}

// throughput returns the answers per second in [from, to).
func (r flowResult) throughput(from, to time.Duration) float64 {
	n := 0
	for _, q := range r.requests {
		if q.ok && q.ended >= from && q.ended < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds()
}

// mean returns the mean over [from, to) of the sum over gateways and nodes.
func (r flowResult) mean(samples [][]float64, from, to time.Duration) float64 {
	sum, n := 0.0, 0
	for i, s := range samples {
		if t := time.Second + time.Duration(i)*r.every; t >= from && t < to {
			for _, v := range s {
				sum += v
			}
			n++
		}
	}
	return sum / float64(max(1, n))
}
