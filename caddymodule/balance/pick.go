package balance

import (
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
	median   float64
	medianAt time.Duration
	known    []float64
}

type scored struct {
	rank  rank
	score float64
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

// Candidate is a node as one pick sees it.
type Candidate struct {
	Node *Node
	// Weight is the node's relative capacity, above 0.
	Weight float64
	// Tier is 1 (most preferred) to MaxTier.
	Tier int
	// Down is what health checks say.
	Down bool
	// Full nodes are not picked even when all is lost.
	Full bool
	// InFlight is a count of requests at the node kept by someone who sees
	// more than this package; the higher count is believed.
	InFlight int
	// WarmSince is when the node recovered in the caller's eyes, 0 if never.
	WarmSince time.Duration
	// Tries is how often this request has already been tried there.
	Tries int
}

// Reason says why a node was picked.
type Reason uint8

// Best has the lowest score, or one within a near tie. Spill is the same in
// a less preferred tier than the first healthy one. Probe finds out whether
// an ejected node is back. Retry goes back to a node that this request was
// already tried at, for want of another. Panic is picked although it is down
// or ejected, because all are.
const (
	Best Reason = iota
	Spill
	Probe
	Retry
	Panic
	reasons
)

var reasonNames = [reasons]string{"best", "spill", "probe", "retry", "panic"}

// String returns the name used in metrics.
func (r Reason) String() string { return reasonNames[r] }

// Reasons lists all reasons, for metrics with one series each.
func Reasons() []Reason { return []Reason{Best, Spill, Probe, Retry, Panic} }

// rank orders candidates before their scores are looked at: a request goes to
// the lowest rank there is. A node already tried gives way to any other
// healthy one, then unhealthy ones are tried anyway: a wrong verdict of
// ours must not refuse a request that a node would have served.
type rank uint8

const (
	healthy rank = iota
	tried
	unhealthy
	hopeless // unhealthy or tried more than once
	excluded
)

func (c *Candidate) rank(now time.Duration) rank {
	switch {
	case c.Full:
		return excluded
	case c.Down || c.Node.breaker.circuit(now) != closed:
		if c.Tries > 0 {
			return hopeless
		}
		return unhealthy
	case c.Tries == 0:
		return healthy
	case c.Tries == 1:
		return tried
	default:
		return hopeless
	}
}

// Pick chooses the node for a request, reserves it in a, and returns its
// index and why. It returns -1 when every candidate is full. It looks at all
// candidates: sampling two (power of two choices) made p99 a hundred times
// worse on small pools of unequal nodes, where both may be slow ones.
func (b *Balancer) Pick(now time.Duration, candidates []Candidate, a *Attempt) (int, Reason) {
	b.mu.Lock()
	warmed := b.finishSlowStart(now, candidates)
	chosen, reason := b.choose(now, candidates)
	for reason == Probe && !candidates[chosen].Node.breaker.probing.CompareAndSwap(false, true) {
		// The probe of another pool came first.
		chosen, reason = b.choose(now, candidates)
	}
	if chosen >= 0 {
		a.begin(b, candidates[chosen].Node, now, reason == Probe, b.rng.Float64())
	}
	b.mu.Unlock()

	if warmed != nil {
		b.report(warmed, change{SlowStart, Up, "its slow start is over"})
	}
	if chosen < 0 {
		return -1, reason
	}
	n := candidates[chosen].Node
	n.picks[reason].Add(1)
	if reason == Probe {
		b.report(n, change{Ejected, Probing, "its ejection is over"})
	}
	return chosen, reason
}

// finishSlowStart returns a node whose slow start has just ended, if there is
// one. Time alone ends it, so picks are where that is noticed.
func (b *Balancer) finishSlowStart(now time.Duration, candidates []Candidate) *Node {
	for i := range candidates {
		n := candidates[i].Node
		since := n.warmSince.Load()
		if since != 0 && now-time.Duration(since) >= b.slowStart && n.breaker.circuit(now) == closed &&
			n.warmSince.CompareAndSwap(since, 0) {
			return n
		}
	}
	return nil
}

func (b *Balancer) choose(now time.Duration, candidates []Candidate) (int, Reason) {
	b.rankAll(now, candidates)
	best := excluded
	first, probe := MaxTier+1, -1
	var sum tiers
	var untried [MaxTier + 1]bool
	retry := false
	for i := range candidates {
		c, r := &candidates[i], b.scratch[i].rank
		best = min(best, r)
		retry = retry || c.Tries > 0
		effective := 0.0
		if r <= tried || r == hopeless && !c.Down && c.Node.breaker.circuit(now) == closed {
			effective = c.Weight * c.warmth(now, b.slowStart)
			first = min(first, c.Tier)
		} else if r == unhealthy && !c.Down && probe < 0 && c.Node.breaker.circuit(now) == halfOpen && !c.Node.breaker.probing.Load() {
			probe = i
		}
		if r == healthy {
			untried[c.Tier] = true
		}
		sum.add(c.Tier, c.Weight, effective)
	}
	switch {
	case best == excluded:
		return -1, Panic
	case best > tried:
		return b.lowest(now, candidates, best, 0), Panic
	}

	tier := first
	if sum.highest > first {
		tier = sum.choose(b.spill, b.rng.Float64())
	}
	// A retry must land: it is no time for experiments.
	if probe >= 0 && !retry && candidates[probe].Tier <= tier {
		return probe, Probe
	}
	if best == tried {
		return b.lowest(now, candidates, tried, 0), Retry
	}
	if !untried[tier] { // all of it already tried or full
		for tier = 1; !untried[tier]; tier++ {
		}
	}
	reason := Best
	if tier > first {
		reason = Spill
	}
	return b.lowest(now, candidates, healthy, tier), reason
}

func (b *Balancer) rankAll(now time.Duration, candidates []Candidate) {
	b.scratch = slices.Grow(b.scratch[:0], len(candidates))[:len(candidates)]
	for i := range candidates {
		b.scratch[i].rank = candidates[i].rank(now)
	}
}

// lowest returns the index of the candidate with the lowest score among those
// of the rank and tier (0: all tiers), by lot among near ties.
func (b *Balancer) lowest(now time.Duration, candidates []Candidate, r rank, tier int) int {
	median := b.medianLatency(now, candidates)
	lowest := -1.0
	for i := range candidates {
		c, s := &candidates[i], &b.scratch[i]
		if s.rank != r || tier != 0 && c.Tier != tier {
			s.rank = excluded
			continue
		}
		s.score = c.factors(now, median, b.slowStart).Score()
		if lowest < 0 || s.score < lowest {
			lowest = s.score
		}
	}
	limit, ties, chosen := lowest*nearTie, 0, -1
	for i := range b.scratch {
		if b.scratch[i].rank == excluded || b.scratch[i].score > limit {
			continue
		}
		// Reservoir sampling: the k-th of the near ties replaces the chosen
		// one with probability 1/k, so all are equally likely.
		if ties++; ties == 1 || b.rng.IntN(ties) == 0 {
			chosen = i
		}
	}
	return chosen
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
		if known := candidates[i].Node.latency.known(); known != 0 && candidates[i].rank(now) <= tried {
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
