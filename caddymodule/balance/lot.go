package balance

import (
	"math"
	"slices"
)

// Who gets a request among nodes whose scores are nearly the same. The scores
// differ by chance then, so it is one of those with the fewest requests for their
// weight, as far as this gateway knows: the third request at a node waits while
// another has a place free. Among equals the lot decides.

// nearTie is how much worse than the best a score may be and still win by lot.
// Averages of some twenty answers of a service time with sigma 0.5 are apart by
// that much by chance. Without a lot, several gateways with the same view send
// their next requests all to the same node.
const nearTie = 1.15

// gather leaves in b.ties the healthy nodes up to a score that have the fewest
// requests: leastLoaded in one pass, for pools without tiers and slow starts.
func (b *Balancer) gather(limit float64) {
	b.ties = b.ties[:0]
	fewest := math.Inf(1)
	for i := range b.scratch {
		if s := &b.scratch[i]; s.score <= limit && s.rank == healthy && s.load <= fewest {
			if s.load < fewest {
				fewest, b.ties = s.load, b.ties[:0]
			}
			b.ties = append(b.ties, i)
		}
	}
}

// lot draws one of b.ties in proportion to weight, so that nodes which serve a
// request equally soon share them as the operator wants.
func (b *Balancer) lot() int {
	last := len(b.ties) - 1
	switch {
	case last == 0:
		return b.ties[0]
	case b.evenTies():
		return b.ties[b.rng.IntN(last+1)]
	}
	sum := 0.0
	for _, i := range b.ties {
		sum += b.views[i].weight
	}
	u := b.rng.Float64() * sum
	for _, i := range b.ties[:last] {
		if u -= b.views[i].weight; u < 0 {
			return i
		}
	}
	return b.ties[last]
}

// evenTies tells whether all of b.ties weigh the same, as they nearly always do,
// and which is seen sooner than a sum is made.
func (b *Balancer) evenTies() bool {
	weight := b.views[b.ties[0]].weight
	for _, i := range b.ties[1:] {
		if b.views[i].weight != weight {
			return false
		}
	}
	return true
}

// leastLoaded leaves in b.ties those with the fewest requests for their weight. A
// node in its slow start has few because it is spared, so nothing is changed
// where there is one.
func (b *Balancer) leastLoaded() {
	fewest := math.Inf(1)
	for _, i := range b.ties {
		if b.views[i].warmth < 1 {
			return
		}
		fewest = min(fewest, b.scratch[i].load)
	}
	b.ties = slices.DeleteFunc(b.ties, func(i int) bool { return b.scratch[i].load > fewest })
}
