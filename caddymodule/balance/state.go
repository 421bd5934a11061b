package balance

import "time"

// State is how a node stands.
type State uint8

// The states a node can be in. Down is found by this package only in
// candidates: it is for callers that hear it from health checks. Avoided
// depends on a pool's rules, and only Explain tells it.
const (
	Up        State = iota // gets its share
	SlowStart              // gets a growing part of its share
	Avoided                // gets nothing while others can serve: for its load, by its own word, or as it is silent
	Ejected                // gets nothing after failures
	Probing                // one request finds out whether it is back
	Down                   // health checks say no
	Draining               // by order: ends what it has and gets nothing new
	Drained                // the same, and it has nothing left
	states
)

var stateNames = [states]string{"up", "slow_start", "avoided", "ejected", "probing", "down", "draining", "drained"}

// String returns the name used in metrics and events.
func (s State) String() string { return stateNames[s] }

// States lists all states, for metrics with one series each.
func States() []State {
	return []State{Up, SlowStart, Avoided, Ejected, Probing, Down, Draining, Drained}
}

// Change is a node's passage from one state to another.
type Change struct {
	Node     *Node
	Old, New State
	Reason   string
	At       time.Duration
}

type change struct {
	old, new State
	reason   string
}

func (b *Balancer) report(now time.Duration, n *Node, c change) {
	if c.old == c.new {
		return
	}
	full := Change{Node: n, Old: c.old, New: c.new, Reason: c.reason, At: now}
	n.Note(full)
	if b.onChange != nil {
		b.onChange(full)
	}
}
