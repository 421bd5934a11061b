package gpupolicy

import (
	"slices"

	"go.uber.org/zap"
)

// What follows warns of configurations that work, but hardly as they were
// meant to.

// warnOfDrained reminds of orders that outlasted an earlier configuration.
func (p *Policy) warnOfDrained() {
	for _, m := range p.members.static {
		if since, ok := m.node.Drained(); ok {
			p.logger.Warn("upstream is drained by an operator's order: it gets no requests until it is resumed",
				zap.String("node", m.dial), zap.Time("since", epoch.Add(since)))
		}
	}
}

// warnOfTelemetry tells of sources that no upstream has.
func (p *Policy) warnOfTelemetry() {
	for i := range p.Telemetry {
		t := &p.Telemetry[i]
		of := func(m *member) bool { return t.of(m.dial) }
		if len(p.members.static) > 0 && !slices.ContainsFunc(p.members.static, of) {
			p.logger.Warn("telemetry reads this host's GPUs, but no upstream is on this host: use a kind that asks the nodes",
				zap.String("kind", t.Kind))
		}
	}
}

// warnOfTiers tells of gaps between tiers, which are often a slip.
func (p *Policy) warnOfTiers() {
	var used []int
	for _, m := range p.members.static {
		used = append(used, m.tier)
	}
	slices.Sort(used)
	used = slices.Compact(used)
	for i, tier := range used {
		if tier != i+1 {
			p.logger.Warn("no upstream is in a tier before the last; the others are used in their order all the same",
				zap.Int("empty_tier", i+1), zap.Ints("tiers", used))
			return
		}
	}
}

// warnOfWeights tells of a node that two handlers of one configuration weigh
// differently: each goes by its own weight, and what is shown is the newest's.
func (p *Policy) warnOfWeights() {
	theCollector.mu.Lock()
	live := slices.Clone(theCollector.live)
	theCollector.mu.Unlock()
	for _, other := range live {
		if other.notifier.events != p.notifier.events { // of the configuration that this one replaces
			continue
		}
		for _, m := range p.members.static {
			for _, o := range other.members.static {
				if o.node == m.node && (o.weight != m.weight || o.tier != m.tier) {
					p.logger.Warn("two handlers give one node different weights or tiers; each goes by its own",
						zap.String("node", m.dial),
						zap.Float64s("weights", []float64{o.weight, m.weight}),
						zap.Ints("tiers", []int{o.tier, m.tier}))
				}
			}
		}
	}
}
