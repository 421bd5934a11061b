package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// AvoidRule says for which value of a signal a node is avoided while others
// can serve.
type AvoidRule struct {
	Signal Signal
	// Limit in the signal's unit.
	Limit float64
}

// A node is avoided after enterAfter samples at or beyond the limit, for at
// least avoidDwell, and until leaveAfter samples are below the limit by
// leaveBelow of it: values hover around limits, and a node that joins and
// leaves with each sample is worse than either. The values are reasoned, not
// measured: two samples are no slip, and ten seconds let a cache be freed. What
// a node says of its own health is a verdict already, and believed at once.
const (
	enterAfter = 2
	leaveAfter = 3
	leaveBelow = 0.15
	avoidDwell = 10 * time.Second
)

// Avoidance is the standing of one node under one rule. It lives with the
// node, so that a reload does not forget it, and is shared by all pools that
// have the rule.
type Avoidance struct {
	rule  AvoidRule
	on    atomic.Bool
	stale atomic.Int64  // from when it no longer counts
	value atomic.Uint64 // float64 bits

	since      time.Duration
	bad, good  int
	enterAfter int
	leaveAfter int
	dwell      time.Duration
}

// maxAvoidances bounds the rules remembered per node, over all configurations
// that there have been.
const maxAvoidances = 32

// Avoidance returns the node's standing under a rule.
func (n *Node) Avoidance(rule AvoidRule) *Avoidance {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.told.avoidance {
		if a.rule == rule {
			return a
		}
	}
	a := &Avoidance{rule: rule, enterAfter: enterAfter, leaveAfter: leaveAfter, dwell: avoidDwell}
	if rule.Signal == Unwell {
		a.enterAfter, a.leaveAfter, a.dwell = 1, 1, 0
	}
	if len(n.told.avoidance) == maxAvoidances {
		n.told.avoidance = append([]*Avoidance(nil), n.told.avoidance[1:]...)
	}
	n.told.avoidance = append(n.told.avoidance, a)
	return a
}

// Rule returns the rule.
func (a *Avoidance) Rule() AvoidRule { return a.rule }

// Value returns the signal's newest value.
func (a *Avoidance) Value() float64 { return load(&a.value) }

// Holds tells whether the node is to be avoided. A verdict that rests on
// telemetry which has stopped lapses.
func (a *Avoidance) Holds(now time.Duration) bool {
	return a.on.Load() && int64(now) < a.stale.Load()
}

// hear takes in a new value. Called with the node's lock held.
func (a *Avoidance) hear(at time.Duration, v float64, interval time.Duration) {
	store(&a.value, v)
	a.stale.Store(int64(at + staleFrom*interval))
	switch {
	case v >= a.rule.Limit:
		a.bad, a.good = a.bad+1, 0
	case v < a.rule.Limit-leaveBelow*math.Abs(a.rule.Limit):
		a.bad, a.good = 0, a.good+1
	default:
		a.bad, a.good = 0, 0
	}
	switch on := a.on.Load(); {
	case !on && a.bad >= a.enterAfter:
		a.since = at
		a.on.Store(true)
	case on && a.good >= a.leaveAfter && at-a.since >= a.dwell:
		a.on.Store(false)
	}
}

// severity is how far beyond its limit the worst signal is for which the
// candidate is avoided, 0 if none is; load tells whether all of them are about
// load, which alone must not take more than half of a tier out.
func (c *Candidate) severity(now time.Duration) (worst float64, byLoad bool) {
	byLoad = true
	for _, a := range c.Avoid {
		if !a.Holds(now) {
			continue
		}
		if a.rule.Signal == Unwell {
			byLoad = false
		}
		worst = max(worst, a.Value()/a.rule.Limit, 1)
	}
	return worst, byLoad
}
