package balance

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// viewFor is how long what a pick worked out of a node is good for if nothing
// is heard of the node meanwhile: what changes by time alone (idleness, slow
// start, the age of reports) changes little in it.
const viewFor = 2 * time.Millisecond

// view is a node as the picks of one pool see it, without what each pick
// changes. Working it out takes several times as long as using it.
type view struct {
	version uint64 // of the node, when it was seen
	until   time.Duration
	node    *Node
	given   float64 // the candidate's weight
	since   time.Duration

	latency   float64 // expected time to first byte with room at the node, in seconds
	sober     float64 // the factor in latency that leaves failures out
	slowdown  float64 // the factor in latency for others' work on the GPU
	perKnee   float64 // 1/knee
	others    float64 // requests of others at the node
	weight    float64
	perWeight float64 // 1/weight
	warmth    float64
	worst     float64 // how far beyond a limit it is avoided for, 0 if it is not
	state     circuit
	drained   bool
	hung      bool // silent for so long that it should get nothing while others can serve
	byLoad    bool // if avoided, for its load only
	plain     bool // none of the above, and closed, and warm
	suspect   bool // failing, though not ejected
}

// of tells whether the view is of the candidate.
func (v *view) of(c *Candidate) bool {
	return v.node == c.Node && v.given == c.Weight && v.since == c.WarmSince
}

// shuns tells whether the node is to get nothing while others can serve.
func (v *view) shuns() bool { return v.hung || v.worst > 0 }

// look works out the view of a candidate. Called with the lock held, after
// refresh.
func (b *Balancer) look(now time.Duration, c *Candidate, v *view) {
	n := c.Node
	*v = view{
		version:  n.version.Load(), // first: what changes from here on is seen next time
		until:    now + viewFor,
		node:     n,
		given:    c.Weight,
		since:    c.WarmSince,
		latency:  n.latency.estimate(now, b.pool.median[c.Tier]),
		sober:    n.latency.sober(),
		slowdown: 1,
		weight:   c.Weight,
		warmth:   1,
		state:    n.breaker.circuit(now),
		drained:  n.drained(),
	}
	knee, learned := n.knee.value()
	if !learned {
		knee = c.Weight / b.pool.lightest
	}
	if w, ok := n.OrderedWeight(); ok {
		v.weight = w
	}
	if n.told.any.Load() {
		trust := n.told.trust(now)
		v.others = trust * load(&n.told.others)
		if share := load(&n.told.share); share != 0 {
			v.weight *= 1 - (1-share)*trust
		}
		told := n.told.expected(now, v.latency, b.shedAt)
		v.latency, v.slowdown = told, told/v.latency
	}
	v.perWeight = 1 / v.weight
	knee *= v.weight / c.Weight
	v.perKnee = 1 / knee
	if silence := n.latency.silence(now); silence > 0 {
		longer := max(1, (c.load()+v.others)*v.perKnee)
		if silence > latencyOverdue*v.latency*longer {
			v.latency, v.sober = silence/longer, 1
			v.hung = silence > latencyHung.Seconds()
		}
	}
	if n.Sparing() || c.WarmSince != 0 {
		v.warmth = c.warmth(now, b.slowStart)
	}
	// Once it has failed a node looks so slow that it gets hardly any request
	// to fail with further, and may stay short of its ejection for long. Until
	// its next success it is no capacity that its tier can count on.
	v.suspect = n.breaker.failing.Load() > 0 && v.latency > latencyOverdue*b.pool.median[c.Tier]
	if len(c.Avoid) > 0 {
		v.worst, v.byLoad = c.severity(now)
	}
	v.plain = v.state == closed && !v.drained && !v.suspect && !v.shuns() && v.warmth == 1
}

// notice ends a slow start that time or answers have: picks are where it is seen.
// Called with the lock held.
func (b *Balancer) notice(now time.Duration, n *Node) {
	since := n.warmup.since.Load()
	if since == 0 || b.warmed != nil || n.warmup.warmth(now, time.Duration(since), b.slowStart) < 1 {
		return
	}
	if n.warmup.since.CompareAndSwap(since, 0) {
		b.warmed = n
	}
}

// factors are the view's part of an explanation.
func (v *view) factors(c *Candidate) Factors {
	return Factors{
		Latency:  v.latency,
		Slowdown: v.slowdown,
		Load:     c.load() + v.others,
		Knee:     1 / v.perKnee,
		Weight:   v.weight,
		Warmth:   v.warmth,
	}
}

// poolView is what a pick needs to know of the candidates as a whole.
type poolView struct {
	// median, by tier, stands in, in seconds, for the latency of a node of which
	// nothing is known yet: with 0, as in Traefik's leasttime, a cold node would
	// get everything; with a guess too high, nothing. Backups are often further
	// away, so only a tier of which nothing is known takes the pool's.
	median   [MaxTier + 1]float64
	lightest float64 // the smallest configured weight
	longest  float64 // the most of what answers of its nodes take at most, 0 while unknown
	size     int
	at       time.Duration
}

// poolEvery is how long a poolView is good for.
const poolEvery = 100 * time.Millisecond

// knownLatency is the average of a node in service.
type knownLatency struct {
	seconds float64
	tier    int
}

func (b *Balancer) refresh(now time.Duration, candidates []Candidate) {
	if b.pool.size == len(candidates) && now-b.pool.at < poolEvery {
		return
	}
	b.known = b.known[:0]
	lightest, longest := math.Inf(1), 0.0
	var count, seen [MaxTier + 1]int
	for i := range candidates {
		c := &candidates[i]
		lightest = min(lightest, c.Weight)
		if known := c.Node.latency.known(); known != 0 && !c.Down && !c.Node.drained() && c.Node.breaker.circuit(now) == closed {
			b.known = append(b.known, knownLatency{known, c.Tier})
			count[c.Tier]++
			longest = max(longest, c.Node.latency.record.value())
		}
	}
	b.pool = poolView{lightest: lightest, longest: longest, size: len(candidates), at: now}
	slices.SortFunc(b.known, func(x, y knownLatency) int { return cmp.Compare(x.seconds, y.seconds) })
	all := latencyUnknown.Seconds()
	if len(b.known) > 0 {
		all = b.known[(len(b.known)-1)/2].seconds
	}
	for tier := range b.pool.median {
		b.pool.median[tier] = all
	}
	for _, k := range b.known {
		if seen[k.tier] == (count[k.tier]-1)/2 {
			b.pool.median[k.tier] = k.seconds
		}
		seen[k.tier]++
	}
	if len(b.views) < len(candidates) {
		b.views = append(b.views, make([]view, len(candidates)-len(b.views))...)
	}
}
