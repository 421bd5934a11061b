package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// orders is what an operator has said of a node. It lives with the node, so
// that every pool which uses the node obeys at once, and the Pool keeps it for
// as long as an order stands.
//
// It is written under the node's lock, under which attempts begin: once Drain
// has returned, none begins. A pick that chose the node a moment before
// chooses again.
type orders struct {
	// The float64 bits of the weight that replaces the configured one, and in
	// their sign whether the node is drained: one read tells a pick that there
	// are no orders.
	word  atomic.Uint64
	since atomic.Int64 // when it was drained
}

const drainedBit = 1 << 63

// Drain takes the node out of service: requests under way go on, and no new
// one begins, whatever the reason to pick it might be. It returns the state
// that leads to, Draining or Drained, and whether the order is a new one.
//
// If it is and announce is not nil, announce is called with that state before
// any request can end the drain, so that the two are told in order. The node
// is locked meanwhile: announce must not wait, nor ask the node or a Balancer.
func (n *Node) Drain(now time.Duration, announce func(State)) (s State, changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.drained() {
		n.orders.since.Store(int64(now))
		n.orders.word.Or(drainedBit)
		n.heard()
		changed = true
	}
	s = n.drainState()
	if changed && announce != nil {
		announce(s)
	}
	return s, changed
}

// Resume ends a drain. The node comes back by a slow start: the process behind
// the address is often a new one, and empty looks ideal to every gateway. It
// reports whether the node was drained.
func (n *Node) Resume(now time.Duration) (changed bool) {
	defer n.audience.Wake()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.drained() {
		return false
	}
	n.warmup.restart(now)
	n.orders.word.And(^uint64(drainedBit))
	n.heard()
	return true
}

// Drained returns whether a drain was ordered, and when.
func (n *Node) Drained() (since time.Duration, ok bool) {
	return time.Duration(n.orders.since.Load()), n.drained()
}

func (n *Node) drained() bool { return n.orders.word.Load()&drainedBit != 0 }

// drainState is the state of a drained node.
func (n *Node) drainState() State {
	if n.inFlight.Load() > 0 {
		return Draining
	}
	return Drained
}

// OrderWeight replaces the weight that configurations give the node, from 1e-6
// to 1e6, in every pool. 0 returns to the configured one.
func (n *Node) OrderWeight(w float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.orders.word.Store(n.orders.word.Load()&drainedBit | math.Float64bits(w))
	n.heard()
}

// OrderedWeight returns the weight that was ordered; ok is false if none was.
func (n *Node) OrderedWeight() (w float64, ok bool) {
	bits := n.orders.word.Load() &^ drainedBit
	return math.Float64frombits(bits), bits != 0
}

// ordered reports whether any order stands.
func (n *Node) ordered() bool { return n.orders.word.Load() != 0 }
