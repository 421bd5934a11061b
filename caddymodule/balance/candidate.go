package balance

import "time"

// Candidate is a node as one pick sees it.
type Candidate struct {
	Node *Node
	// Weight is the node's relative capacity, from 1e-6 to 1e6.
	Weight float64
	// Tier is 1 (most preferred) to MaxTier.
	Tier int
	// Down is what health checks say.
	Down bool
	// Full nodes are not picked even when all is lost.
	Full bool
	// Limit is how many requests of ours make the node full, 0 for no limit.
	Limit int
	// InFlight is a count of requests at the node kept by someone who sees
	// more than this package; the higher count is believed.
	InFlight int
	// WarmSince is when the node recovered in the caller's eyes, 0 if never.
	WarmSince time.Duration
	// Tries is how often this request has already been tried there.
	Tries int
	// Avoid are the node's standings under the pool's rules.
	Avoid []*Avoidance
	// Affinity is how much the request wishes to go to this node: the highest
	// first, 0 for not at all. Only PickPinned looks at it.
	Affinity float64
	// Backlog is how long those take who wait for this very node and come first.
	Backlog time.Duration
}

// rank orders candidates before their scores are looked at: a request goes to
// the lowest rank there is. A node already tried gives way to any other
// one that can serve, then unhealthy ones are tried anyway: a wrong verdict of
// ours must not refuse a request that a node would have served.
type rank uint8

const (
	healthy rank = iota
	avoided      // for its load or by its own word: it may still serve
	tried
	unhealthy // down, ejected or hung
	hopeless  // unhealthy or tried more than once
	excluded
)

func (c *Candidate) rank(state circuit) rank {
	switch {
	case c.NoRoom():
		return excluded
	case c.Down || state != closed:
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

// NoRoom reports whether the node takes no more requests now.
func (c *Candidate) NoRoom() bool {
	return c.Full || c.Limit > 0 && c.Node.inFlight.Load() >= int64(c.Limit)
}

// load is the number of requests the node would have with the next one.
func (c *Candidate) load() float64 {
	return float64(max(c.Node.inFlight.Load(), int64(c.InFlight)) + 1)
}

func (c *Candidate) warmth(now, slowStart time.Duration) float64 {
	w := &c.Node.warmup
	return w.warmth(now, max(c.WarmSince, time.Duration(w.since.Load())), slowStart)
}

// Takes tells whether the node may get requests at all: it is not full, nor
// drained by order.
func (c *Candidate) Takes() bool { return !c.NoRoom() && !c.Node.drained() }

// Healthy tells whether nothing speaks against the node: it is neither down
// nor ejected.
func (c *Candidate) Healthy(now time.Duration) bool {
	return !c.Down && c.Node.breaker.circuit(now) == closed
}
