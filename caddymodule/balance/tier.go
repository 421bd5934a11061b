package balance

// MaxTier is the highest tier. Tier 1 is the most preferred.
const MaxTier = 16

// DefaultSpill is Envoy's over-provisioning factor.
const DefaultSpill = 1.4

// tiers sums up the nodes of each tier for one pick. Index 0 is unused.
type tiers struct {
	healthy, total [MaxTier + 1]float64
	highest        int
}

// add counts a node of the given weight, of which effective is healthy now:
// 0 when it is down or ejected, less than its weight while it warms up. A
// region that comes back therefore regains its share as its nodes warm up,
// not at once.
func (t *tiers) add(tier int, weight, effective float64) {
	t.total[tier] += weight
	t.healthy[tier] += effective
	t.highest = max(t.highest, tier)
}

// choose returns the tier for a request that drew u, uniform in [0, 1), or 0
// when no tier has a healthy node.
//
// A tier's health is spill × the healthy share of its weight, at most 1; each
// tier takes what the ones before it leave, up to its health. With 1.4, a
// tier may lose 2 of 7 equal nodes before the next gets anything. When all
// tiers together cannot take everything, they share it by health. This is
// Envoy's priority load, on weights instead of host counts.
func (t *tiers) choose(spill, u float64) int {
	var share [MaxTier + 1]float64
	left, last := 1.0, 0
	for tier := 1; tier <= t.highest; tier++ {
		if t.healthy[tier] == 0 {
			continue
		}
		share[tier] = min(left, spill*t.healthy[tier]/t.total[tier])
		left -= share[tier]
		last = tier
	}
	u *= 1 - left // what there is to share
	for tier := 1; tier < last; tier++ {
		if u < share[tier] {
			return tier
		}
		u -= share[tier]
	}
	return last
}
