package balance

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A discrete-event simulator in virtual time: Poisson arrivals, nodes with a
// number of slots and a FIFO queue before them, lognormal service times, GPUs
// shared with other tenants, and telemetry as late and coarse as the real one.
// It replays minutes in milliseconds, and the same seed gives the same run.

// simNode is a node's nature. Functions of time may be nil.
type simNode struct {
	slots   int
	service time.Duration                   // mean
	slowed  func(now time.Duration) float64 // factor on service, nil: 1
	fate    func(now time.Duration) fate    // nil: fine
	weight  float64                         // 0: 1
	tier    int                             // 0: 1
	room    int                             // more requests are refused in a millisecond, 0: none are
	dies    time.Duration                   // with all that it works on, 0: never
	// cotenant is the share of the GPU that others take, which slows service
	// by contention (nil: shared).
	cotenant   func(now time.Duration) float64
	contention func(share float64) float64
}

// shared is how much longer work takes on a GPU of which others take a share
// of the time.
func shared(share float64) float64 { return 1 / (1 - share) }

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

// simTelemetry is how gateways learn of GPU utilisation: as NVML tells it, the
// share of the last window in which anything ran on the GPU, in whole percents.
type simTelemetry struct {
	interval time.Duration // 0: none
	window   time.Duration // 0: 1 s
	delay    time.Duration // between measuring and arriving
	falsify  func(now time.Duration, node int, utilization float64) float64
}

type scenario struct {
	nodes     []simNode
	rate      float64                         // requests per second
	surge     func(now time.Duration) float64 // factor on rate, nil: 1
	length    time.Duration
	gateways  int // 0: 1
	retries   int
	budget    *Budget // of retries, nil: none
	telemetry simTelemetry
	seed      uint64
}

// policy is what is compared. Each gateway has its own.
type policy interface {
	// pick returns a node and how to report its verdict. tries counts the
	// attempts of this request per node.
	pick(now time.Duration, tries []int) (node int, done func(now time.Duration, v Verdict))
}

// listener is a policy that wants telemetry.
type listener interface {
	hear(now, measured time.Duration, node int, utilization float64)
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
	busiest  int // the most requests a node had
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
	work   []spans
	result result
}

// simulate runs the scenario with a policy per gateway.
func simulate(s scenario, newPolicy func(m *simulation, gateway int) policy) result {
	m := &simulation{
		scenario: s,
		rng:      rand.New(rand.NewPCG(s.seed, 1)),
		busy:     make([]int, len(s.nodes)),
		wait:     make([][]func(time.Duration), len(s.nodes)),
		work:     make([]spans, len(s.nodes)),
	}
	var gateways []policy
	for g := range max(1, s.gateways) {
		gateways = append(gateways, newPolicy(m, g))
		if l, ok := gateways[g].(listener); ok && s.telemetry.interval > 0 {
			m.report(l)
		}
	}
	var arrive func(now time.Duration)
	arrive = func(now time.Duration) {
		m.attempt(now, now, gateways[m.rng.IntN(len(gateways))], make([]int, len(s.nodes)), s.retries)
		rate := s.rate
		if s.surge != nil {
			rate *= s.surge(now)
		}
		if next := now + seconds(m.rng.ExpFloat64()/rate); next < s.length {
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

// report tells a gateway of each node's GPU over and over, ±10 % apart. Its
// randomness is its own, so that runs with and without telemetry see the same
// requests.
func (m *simulation) report(l listener) {
	tel := m.telemetry
	window := tel.window
	if window == 0 {
		window = time.Second
	}
	for i := range m.nodes {
		rng := rand.New(rand.NewPCG(m.seed, uint64(m.seq)+1000))
		var read func(now time.Duration)
		read = func(now time.Duration) {
			u := math.Round(100*m.utilization(i, now-window, now)) / 100
			if tel.falsify != nil {
				u = tel.falsify(now, i, u)
			}
			if u >= 0 {
				m.at(now+tel.delay, func(later time.Duration) { l.hear(later, now, i, u) })
			}
			if next := now + seconds(tel.interval.Seconds()*(0.9+0.2*rng.Float64())); next < m.length {
				m.at(next, read)
			}
		}
		m.at(window+seconds(tel.interval.Seconds()*rng.Float64()), read)
	}
}

// utilization is the share of a time in which the node's GPU worked for anyone.
func (m *simulation) utilization(i int, from, to time.Duration) float64 {
	own := m.work[i].within(from, to)
	if m.nodes[i].cotenant == nil {
		return own
	}
	const steps = 20
	others := 0.0
	for k := range steps {
		others += m.nodes[i].cotenant(from+(to-from)*time.Duration(2*k+1)/(2*steps)) / steps
	}
	return own + (1-own)*others
}

func (m *simulation) attempt(now, arrived time.Duration, p policy, tries []int, retries int) {
	i, done := p.pick(now, tries)
	m.result.picks = append(m.result.picks, pickOf{now, i})
	again := slices.Max(tries) > 0
	tries[i]++
	ahead := m.busy[i] + len(m.wait[i])
	m.result.busiest = max(m.result.busiest, ahead+1)
	if m.budget != nil && !again {
		m.budget.Request(now, ahead+1)
	}
	over := false
	end := func(now time.Duration, v Verdict) {
		if over {
			return
		}
		over = true
		done(now, v)
		if m.budget != nil && again && v == Served {
			m.budget.Good(now)
		}
		if (v == Failed || v == Busy) && retries > 0 && (m.budget == nil || m.budget.Retry(now)) {
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
	switch {
	case n.dies != 0 && now >= n.dies:
		state = dead
	case n.dies != 0:
		m.at(n.dies, func(now time.Duration) { end(now, Failed) })
	case n.room != 0 && ahead >= n.room:
		m.at(now+time.Millisecond, func(now time.Duration) { end(now, Busy) })
		return
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

// mean is the mean service time at a time.
func (m *simulation) mean(i int, now time.Duration) float64 {
	n := m.nodes[i]
	mean := n.service.Seconds()
	if n.slowed != nil {
		mean *= n.slowed(now)
	}
	if n.cotenant != nil {
		if n.contention == nil {
			mean *= shared(n.cotenant(now))
		} else {
			mean *= n.contention(n.cotenant(now))
		}
	}
	return mean
}

func (m *simulation) start(i int, now time.Duration, end func(time.Duration)) {
	m.busy[i]++
	m.work[i].set(now, true)
	took := m.mean(i, now) * math.Exp(simSigma*m.rng.NormFloat64()-simSigma*simSigma/2)
	m.at(now+seconds(took), func(now time.Duration) {
		m.busy[i]--
		m.work[i].set(now, m.busy[i] > 0)
		if len(m.wait[i]) > 0 {
			next := m.wait[i][0]
			m.wait[i] = m.wait[i][1:]
			m.start(i, now, next)
		}
		end(now)
	})
}

// spans are the times in which something was so, in order.
type spans struct {
	past  [][2]time.Duration
	since time.Duration
	on    bool
}

func (s *spans) set(now time.Duration, on bool) {
	switch {
	case on == s.on:
	case on:
		s.since = now
	default:
		s.past = append(s.past, [2]time.Duration{s.since, now})
	}
	s.on = on
}

// within returns the share of [from, to) that the spans cover.
func (s *spans) within(from, to time.Duration) float64 {
	var sum time.Duration
	if s.on {
		sum += max(0, to-max(from, s.since))
	}
	for _, span := range slices.Backward(s.past) {
		if span[1] <= from {
			break
		}
		sum += max(0, min(to, span[1])-max(from, span[0]))
	}
	return float64(sum) / float64(to-from)
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
