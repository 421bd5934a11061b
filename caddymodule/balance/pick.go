package balance

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Options are a pool's settings.
type Options struct {
	// SlowStart is how long a node is spared that joins or recovers. 0 is
	// DefaultSlowStart, less is none.
	SlowStart time.Duration
	// Spill is the over-provisioning factor of tiers, at least 1. 0 is
	// DefaultSpill.
	Spill float64
	// ShedAt is the GPU utilisation above which others' load counts against a
	// node, 0 to 1. 0 is DefaultShedAt.
	ShedAt float64
	// Breaker ejects failing nodes. Its zero value never does.
	Breaker Breaker
	// Seed makes two balancers alike.
	Seed uint64
	// Backlog, if not nil, tells how long those take who wait already for a
	// node to have room, and lets Pick prefer to wait for a full node rather
	// than to take one with room that would be slower. It is called with the
	// balancer locked.
	Backlog func() time.Duration
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
	shedAt    float64
	breaker   Breaker
	backlog   func() time.Duration
	seed      uint64
	onChange  func(Change)

	// Picks of one pool happen one after another: two at once would not see
	// each other's reservation and choose the same node.
	mu      sync.Mutex
	rng     *rand.Rand
	scratch []scored
	ties    []int
	warmed  *Node
	pool    poolView
	views   []view         // of the candidates of the last pick, by position
	known   []knownLatency // scratch of refresh
	record  recorder
}

// scored is what a pick works out of a candidate, beyond its view.
type scored struct {
	score  float64
	load   float64 // requests with this one, for its weight
	rank   rank
	serves bool // it is not down, ejected, drained, avoided or suspect: capacity of its tier
	rests  bool // its slow start lets this request pass
	window bool // its slow start has room for this request, whatever its share
	shed   bool // it is avoided for nothing but its load
}

// New returns a balancer.
func New(o Options) *Balancer {
	b := &Balancer{
		slowStart: o.SlowStart,
		spill:     o.Spill,
		shedAt:    o.ShedAt,
		breaker:   o.Breaker,
		backlog:   o.Backlog,
		seed:      o.Seed,
		onChange:  o.OnChange,
		rng:       rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15)),
	}
	if b.slowStart == 0 {
		b.slowStart = DefaultSlowStart
	}
	if b.spill == 0 {
		b.spill = DefaultSpill
	}
	if b.shedAt == 0 {
		b.shedAt = DefaultShedAt
	}
	return b
}

// Pick chooses the node for a request, reserves it in a, and returns its
// index and why. It returns -1 when every candidate is full or drained, or
// every healthy one is full: being busy is no reason to try nodes that are
// known to fail. With Options.Backlog it also returns -1 when a full node
// would have the request answered sooner, be it than by a node that it has just
// been tried at.
//
// It looks at all candidates: sampling two (power of two choices) made p99 a
// hundred times worse on small pools of unequal nodes, where both may be slow.
func (b *Balancer) Pick(now time.Duration, candidates []Candidate, a *Attempt) (int, Reason) {
	return b.pick(now, candidates, a, false)
}

// pick is Pick for a request that begins a session, or not.
func (b *Balancer) pick(now time.Duration, candidates []Candidate, a *Attempt, session bool) (int, Reason) {
	b.mu.Lock()
	chosen, reason := b.choose(now, candidates, session)
	b.draft(now, candidates, chosen, reason)
	for chosen >= 0 && !b.reserve(now, &candidates[chosen], a, reason == Probe, b.views[chosen].others) {
		chosen, reason = b.choose(now, candidates, session)
		b.draft(now, candidates, chosen, reason)
	}
	b.record.keep()
	b.unlock(now)
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

// unlock ends a pick, and reports a slow start that it saw to be over.
func (b *Balancer) unlock(now time.Duration) {
	warmed := b.warmed
	b.warmed = nil
	b.mu.Unlock()
	if warmed != nil {
		b.report(now, warmed, change{SlowStart, Up, "its slow start is over"})
	}
}

// reserve fails when, since the node was chosen, the probe of another pool
// came first, another pool took its last place, or an operator drained it.
func (b *Balancer) reserve(now time.Duration, c *Candidate, a *Attempt, probe bool, others float64) bool {
	n := c.Node
	if probe && !n.breaker.probing.CompareAndSwap(false, true) {
		return false
	}
	if a.begin(b, c, now, probe, int(c.load()+others+0.5)) {
		return true
	}
	if probe {
		n.breaker.probing.Store(false)
	}
	return false
}

func (b *Balancer) choose(now time.Duration, candidates []Candidate, session bool) (int, Reason) {
	sum := b.survey(now, candidates)
	if sum.best == excluded || sum.best > tried && sum.full {
		return -1, Panic
	}
	switch {
	case sum.probe >= 0 && !sum.retry && sum.serving:
		// A retry must land: it is no time for experiments. Nodes of any tier
		// are probed: a backup that stayed ejected would not be there when
		// it is needed.
		return sum.probe, Probe
	case sum.best == tried && sum.full && b.backlog != nil && b.retryWaits(candidates):
		return -1, Retry
	case sum.best == tried:
		return b.lowest(candidates, tried, 0), Retry
	case sum.best > healthy:
		return b.lowest(candidates, sum.best, 0), Panic
	}
	if sum.full && !sum.retry && b.backlog != nil && b.worthWaiting(candidates, sum.least) {
		return -1, Best
	}
	if sum.plain && !session {
		b.gather(sum.least * nearTie)
		return b.lot(), Best
	}
	tier := sum.first
	if sum.last > sum.first {
		tier = b.tier(candidates)
	}
	if sum.last > sum.first && !b.any(candidates, healthy, tier) { // all of it already tried or full
		for tier = sum.first; !b.any(candidates, healthy, tier); tier++ {
		}
	}
	reason := Best
	if tier > sum.first {
		reason = Spill
	}
	if session {
		return b.share(candidates, tier), reason
	}
	return b.lowest(candidates, healthy, tier), reason
}

// overview is what a first look at the candidates gives.
type overview struct {
	best        rank
	first, last int  // tier with a node in service, highest tier of all
	probe       int  // a node to be probed, or -1
	full        bool // a node has no room but is healthy
	serving     bool // some node is neither down nor ejected
	retry       bool // the request has been tried before
	plain       bool // one tier, and no slow start: all healthy nodes compete
	least       float64
}

// survey ranks and scores the candidates in b.scratch.
func (b *Balancer) survey(now time.Duration, candidates []Candidate) overview {
	o := overview{best: excluded, probe: -1, plain: true, least: math.Inf(1)}
	b.refresh(now, candidates)
	b.scratch = slices.Grow(b.scratch[:0], len(candidates))[:len(candidates)]
	scratch, views := b.scratch[:len(candidates)], b.views[:len(candidates)]
	shed := false
	for i := range candidates {
		c, s, v := &candidates[i], &scratch[i], &views[i]
		if v.version != c.Node.version.Load() || now >= v.until || !v.of(c) {
			b.look(now, c, v)
			b.notice(now, c.Node)
		}
		requests := c.load()
		score := v.latency * congestion((requests+v.others)*v.perKnee)
		if c.Tier > o.last {
			o.last = c.Tier
		}
		if v.plain && !c.Down && c.Tries == 0 && !c.NoRoom() {
			*s = scored{score: score, load: requests * v.perWeight, serves: true}
			o.best, o.serving = healthy, true
		} else {
			*s = scored{score: score, load: requests * v.perWeight, rank: c.rank(v.state)}
			o.retry = o.retry || c.Tries > 0
			switch {
			case v.drained:
				s.rank = excluded
			case c.Down:
			case v.state == closed:
				o.serving, o.full = true, o.full || c.NoRoom()
				if v.shuns() {
					s.rank = max(s.rank, avoided)
					if v.hung && s.rank < unhealthy { // not even when all others are full
						s.rank = unhealthy
					}
					s.shed = v.byLoad && !v.hung
					shed = shed || s.shed
				} else if !v.suspect {
					s.serves = true
				}
				if s.serves && v.warmth < 1 {
					s.window = c.Node.inFlight.Load() < c.Node.warmup.window()
					s.rests = !s.window && b.rng.Float64() >= v.warmth
					o.plain = false
				}
			case v.state == halfOpen && o.probe < 0 && !c.NoRoom() && !c.Node.breaker.probing.Load():
				o.probe = i
			}
			o.best = min(o.best, s.rank)
		}
		if s.serves && (o.first == 0 || c.Tier < o.first) {
			o.first = c.Tier
		}
		if s.rank == healthy && score < o.least {
			o.least = score
		}
	}
	o.plain = o.plain && o.first == o.last
	if shed {
		o.plain = false
		b.keepHalf(candidates, &o)
	}
	return o
}

// keepHalf lets nodes back that are avoided for their load, the least loaded
// first, where that would take more than half of a tier's weight out. Load
// seldom comes alone: what one node can't carry the others have to, and they
// would be next (Envoy's panic threshold is 50 %, too).
func (b *Balancer) keepHalf(candidates []Candidate, o *overview) {
	var total, shed [MaxTier + 1]float64
	for i := range b.scratch {
		tier, weight := candidates[i].Tier, b.views[i].weight
		total[tier] += weight
		if b.scratch[i].shed {
			shed[tier] += weight
		}
	}
	for tier := range total {
		for shed[tier] > total[tier]/2 {
			least := -1
			for i := range b.scratch {
				s := &b.scratch[i]
				if candidates[i].Tier == tier && s.shed && (least < 0 || b.views[i].worst < b.views[least].worst) {
					least = i
				}
			}
			s := &b.scratch[least]
			shed[tier] -= b.views[least].weight
			s.shed, s.serves, s.rank = false, true, candidates[least].rank(closed)
			o.best = min(o.best, s.rank)
			if o.first == 0 || tier < o.first {
				o.first = tier
			}
		}
	}
}

// tier draws the tier for a request.
func (b *Balancer) tier(candidates []Candidate) int {
	var sum tiers
	for i := range b.scratch {
		v, serving := &b.views[i], 0.0
		switch s := &b.scratch[i]; {
		case s.window:
			serving = v.weight
		case s.serves:
			serving = v.weight * v.warmth
		}
		sum.add(candidates[i].Tier, v.weight, serving)
	}
	return sum.choose(b.spill, b.rng.Float64())
}

func (b *Balancer) any(candidates []Candidate, r rank, tier int) bool {
	for i := range b.scratch {
		if b.scratch[i].rank == r && candidates[i].Tier == tier {
			return true
		}
	}
	return false
}

// lowest returns the index of the candidate with the lowest score among those
// of the rank and tier (0: all tiers), or one nearly as low. Nodes whose slow
// start lets the request pass are asked only where there is no other.
func (b *Balancer) lowest(candidates []Candidate, r rank, tier int) int {
	least, rests := math.Inf(1), true
	for i := range b.scratch {
		s := &b.scratch[i]
		if s.rank != r || tier != 0 && candidates[i].Tier != tier || s.rests && !rests {
			continue
		}
		if rests && !s.rests {
			least, rests = math.Inf(1), false
		}
		least = min(least, s.score)
	}
	b.ties = b.ties[:0]
	for i := range b.scratch {
		s := &b.scratch[i]
		if s.score <= least*nearTie && s.rank == r && s.rests == rests && (tier == 0 || candidates[i].Tier == tier) {
			b.ties = append(b.ties, i)
		}
	}
	b.leastLoaded()
	return b.lot()
}
