package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// nearTie is how much worse than the best a score may be and still win by
// lot. Without it, several gateways with the same view send their next
// requests all to the same node.
const nearTie = 1.05

// medianEvery is how long a pool's median latency is good for.
const medianEvery = 100 * time.Millisecond

// Options are a pool's settings.
type Options struct {
	// SlowStart is how long a node is spared that joins or recovers. 0 is
	// DefaultSlowStart, less is none.
	SlowStart time.Duration
	// Spill is the over-provisioning factor of tiers, at least 1. 0 is
	// DefaultSpill.
	Spill float64
	// Breaker ejects failing nodes. Its zero value never does.
	Breaker Breaker
	// Seed makes two balancers alike.
	Seed uint64
	// OnChange hears of every change of a node's state that this pool's
	// requests bring about. It is called without locks held, from whatever
	// goroutine made the change, and must not wait.
	OnChange func(Change)
}

// Balancer picks among the nodes of one pool. Several balancers may share
// nodes. It is safe for concurrent use.
type Balancer struct {
	slowStart time.Duration
	spill     float64
	breaker   Breaker
	onChange  func(Change)

	// Picks of one pool happen one after another: two at once would not see
	// each other's reservation and choose the same node.
	mu       sync.Mutex
	rng      *rand.Rand
	scratch  []scored
	ties     []int
	warmed   *Node
	median   float64
	medianAt time.Duration
	known    []float64
}

// scored is what a pick works out of a candidate.
type scored struct {
	score  float64
	warmth float64 // 0 when it is down, ejected or drained
	tier   int
	rank   rank
}

// New returns a balancer.
func New(o Options) *Balancer {
	b := &Balancer{
		slowStart: o.SlowStart,
		spill:     o.Spill,
		breaker:   o.Breaker,
		onChange:  o.OnChange,
		rng:       rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15)),
	}
	if b.slowStart == 0 {
		b.slowStart = DefaultSlowStart
	}
	if b.spill == 0 {
		b.spill = DefaultSpill
	}
	return b
}

// Pick chooses the node for a request, reserves it in a, and returns its
// index and why. It returns -1 when every candidate is full or drained, or
// every healthy one is full: being busy is no reason to try nodes that are
// known to fail.
//
// It looks at all candidates: sampling two (power of two choices) made p99 a
// hundred times worse on small pools of unequal nodes, where both may be slow.
func (b *Balancer) Pick(now time.Duration, candidates []Candidate, a *Attempt) (int, Reason) {
	b.mu.Lock()
	chosen, reason := b.choose(now, candidates)
	for chosen >= 0 && !b.reserve(now, candidates[chosen].Node, a, reason == Probe) {
		chosen, reason = b.choose(now, candidates)
	}
	warmed := b.warmed
	b.warmed = nil
	b.mu.Unlock()

	if warmed != nil {
		b.report(now, warmed, change{SlowStart, Up, "its slow start is over"})
	}
	if chosen < 0 {
		return -1, reason
	}
	n := candidates[chosen].Node
	n.picks[reason].Add(1)
	if reason == Probe {
		b.report(now, n, change{Ejected, Probing, "its ejection is over"})
	}
	return chosen, reason
}

// reserve fails when, since the node was chosen, the probe of another pool
// came first or an operator drained the node.
func (b *Balancer) reserve(now time.Duration, n *Node, a *Attempt, probe bool) bool {
	if probe && !n.breaker.probing.CompareAndSwap(false, true) {
		return false
	}
	if a.begin(b, n, now, probe, b.rng.Float64()) {
		return true
	}
	if probe {
		n.breaker.probing.Store(false)
	}
	return false
}

func (b *Balancer) choose(now time.Duration, candidates []Candidate) (int, Reason) {
	sum := b.survey(now, candidates)
	if sum.best == excluded || sum.best > tried && sum.full {
		return -1, Panic
	}
	switch {
	case sum.probe >= 0 && !sum.retry && sum.first != 0:
		// A retry must land: it is no time for experiments. Nodes of any tier
		// are probed: a backup that stayed ejected would not be there when
		// it is needed.
		return sum.probe, Probe
	case sum.best > tried:
		return b.lowest(sum.best, 0), Panic
	case sum.best == tried:
		return b.lowest(tried, 0), Retry
	}
	tier := sum.first
	if sum.last > sum.first {
		tier = b.tier(candidates)
	}
	if sum.last > sum.first && !b.any(healthy, tier) { // all of it already tried or full
		for tier = sum.first; !b.any(healthy, tier); tier++ {
		}
	}
	if tier > sum.first {
		return b.lowest(healthy, tier), Spill
	}
	return b.lowest(healthy, tier), Best
}

// overview is what a first look at the candidates gives.
type overview struct {
	best        rank
	first, last int  // tier with a healthy node, highest tier of all
	probe       int  // a node to be probed, or -1
	full        bool // a node has no room but is healthy
	retry       bool // the request has been tried before
}

// survey ranks and scores the candidates in b.scratch.
func (b *Balancer) survey(now time.Duration, candidates []Candidate) overview {
	o := overview{best: excluded, probe: -1}
	median := b.medianLatency(now, candidates)
	b.scratch = slices.Grow(b.scratch[:0], len(candidates))[:len(candidates)]
	for i := range candidates {
		c, s := &candidates[i], &b.scratch[i]
		state := c.Node.breaker.circuit(now)
		s.rank, s.tier, s.warmth = c.rank(state), c.Tier, 0
		f := Factors{Latency: c.Node.latency.expected(now, median), Load: c.load(), Weight: c.Weight, Warmth: 1}
		if c.Node.ordered() {
			f.Weight = c.weight()
			if c.Node.drained() {
				s.rank, state = excluded, open
			}
		}
		if !c.Down && state == closed {
			s.warmth = b.warmthOf(now, c)
			f.Warmth = s.warmth
			o.full = o.full || c.Full
			if o.first == 0 || c.Tier < o.first {
				o.first = c.Tier
			}
		} else if state == halfOpen && o.probe < 0 && !c.Down && !c.Full && !c.Node.breaker.probing.Load() {
			o.probe = i
		}
		s.score = f.Score()
		o.best = min(o.best, s.rank)
		o.last = max(o.last, c.Tier)
		o.retry = o.retry || c.Tries > 0
	}
	return o
}

// warmthOf is the candidate's warmth. A node whose slow start is over is
// remembered in b.warmed: time alone ends it, so picks are where it is noticed.
func (b *Balancer) warmthOf(now time.Duration, c *Candidate) float64 {
	since := c.Node.warmSince.Load()
	if since == 0 && c.WarmSince == 0 {
		return 1
	}
	if since != 0 && now-time.Duration(since) >= b.slowStart && b.warmed == nil && c.Node.warmSince.CompareAndSwap(since, 0) {
		b.warmed = c.Node
	}
	return c.warmth(now, b.slowStart)
}

// tier draws the tier for a request.
func (b *Balancer) tier(candidates []Candidate) int {
	var sum tiers
	for i := range candidates {
		c := &candidates[i]
		w := c.weight()
		sum.add(c.Tier, w, w*b.scratch[i].warmth)
	}
	return sum.choose(b.spill, b.rng.Float64())
}

func (b *Balancer) any(r rank, tier int) bool {
	for i := range b.scratch {
		if b.scratch[i].rank == r && b.scratch[i].tier == tier {
			return true
		}
	}
	return false
}

// lowest returns the index of the candidate with the lowest score among those
// of the rank and tier (0: all tiers), by lot among near ties.
func (b *Balancer) lowest(r rank, tier int) int {
	limit := math.Inf(1)
	for i := range b.scratch {
		if s := &b.scratch[i]; s.rank == r && (tier == 0 || s.tier == tier) {
			limit = min(limit, s.score*nearTie)
		}
	}
	b.ties = b.ties[:0]
	for i := range b.scratch {
		if s := &b.scratch[i]; s.score <= limit && s.rank == r && (tier == 0 || s.tier == tier) {
			b.ties = append(b.ties, i)
		}
	}
	if len(b.ties) == 1 {
		return b.ties[0]
	}
	return b.ties[b.rng.IntN(len(b.ties))]
}

// medianLatency returns the median of what is known of the serving nodes, in
// seconds. It stands in for a node of which nothing is known yet: with 0, as
// in Traefik's leasttime, a cold node would get everything; with a guess too
// high, nothing.
func (b *Balancer) medianLatency(now time.Duration, candidates []Candidate) float64 {
	if b.median != 0 && now-b.medianAt < medianEvery {
		return b.median
	}
	b.known = b.known[:0]
	for i := range candidates {
		if known := candidates[i].Node.latency.known(); known != 0 && !candidates[i].Down && !candidates[i].Node.drained() && candidates[i].Node.breaker.circuit(now) == closed {
			b.known = append(b.known, known)
		}
	}
	b.median, b.medianAt = latencyUnknown.Seconds(), now
	if len(b.known) > 0 {
		slices.Sort(b.known)
		b.median = b.known[(len(b.known)-1)/2]
	}
	return b.median
}
