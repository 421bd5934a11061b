package balance

import (
	"math"
	"time"
)

// Pin says what became of a request's wish to go to a certain node, where its
// session is.
type Pin uint8

// Requests without a wish are PinNone. PinKept is for those that got their
// node; PinWaits for those that had better wait until it has room. The others
// are reasons to break the pin: the node is out (down, ejected, hung, unwell by
// its own word), drained by order, full, overloaded, or was tried by this very
// request.
const (
	PinNone Pin = iota
	PinKept
	PinWaits
	PinOut
	PinDrained
	PinFull
	PinOverloaded
	PinTried
	Pins // how many there are
)

var pinNames = [Pins]string{"none", "kept", "waits", "out", "drained", "full", "overloaded", "tried"}

// String returns the name used in metrics.
func (p Pin) String() string { return pinNames[p] }

const (
	// A pinned node is overloaded if its next answer is expected pinFactor
	// times later than the best other node's, and pinSlack later. A session
	// that moves may lose what the node keeps of it, so chance must not move
	// it: four times is what latencyOverdue takes to be beyond chance. And what
	// is a second slower at most is not worth a session.
	pinFactor = latencyOverdue
	pinSlack  = time.Second
)

// PickPinned reserves in a the node that the request wishes to go to, the one
// with the highest Candidate.Affinity, if nothing speaks against it. When that
// is not there to have, it is the next that the request wishes for; when it is
// overloaded, the best one is called for, and that is for Pick to find. It
// returns the index, or -1 if the request is to wait or no wish can be met, and
// what became of the wish for the first node.
//
// Loads alone don't break pins before they are gross: a node avoided for its
// load, spared for its slow start or of a lesser tier gets no new sessions, but
// keeps those it has. An ejected node is probed by those pinned to it.
func (b *Balancer) PickPinned(now time.Duration, candidates []Candidate, a *Attempt) (int, Pin) {
	b.mu.Lock()
	chosen, reason, pin := b.choosePinned(now, candidates, a)
	b.unlock(now)
	if chosen < 0 {
		return -1, pin
	}
	n := candidates[chosen].Node
	n.picks[reason].Add(1)
	if reason == Probe {
		b.report(now, n, change{Ejected, Probing, "its ejection is over"})
	}
	return chosen, pin
}

// Pin says what would become of the wish for the first node, and reserves
// nothing.
func (b *Balancer) Pin(now time.Duration, candidates []Candidate) Pin {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.survey(now, candidates)
	if i := wished(candidates, math.Inf(1)); i >= 0 {
		return b.pin(candidates, i)
	}
	return PinNone
}

func (b *Balancer) choosePinned(now time.Duration, candidates []Candidate, a *Attempt) (int, Reason, Pin) {
	b.survey(now, candidates)
	first, below := PinNone, math.Inf(1)
	for {
		i := wished(candidates, below)
		if i < 0 {
			return -1, Sticky, first
		}
		below = candidates[i].Affinity
		pin, reason := b.pin(candidates, i), Sticky
		if b.views[i].state != closed {
			reason = Probe
		}
		if pin == PinKept && !b.reserve(now, &candidates[i], a, reason == Probe, b.views[i].others) {
			pin = PinFull // or drained, or probed by another, a moment ago
		}
		if first == PinNone {
			first = pin
		}
		switch {
		case pin == PinKept:
			return i, reason, first
		case first == PinWaits, first == PinOverloaded:
			return -1, reason, first
		}
	}
}

// PickSession is Pick for the first request of a session, which decides where
// those to come go. They would all go to the node that happens to be a little
// faster when little is going on; so each node gets new sessions in proportion to
// its weight and inversely to its score.
func (b *Balancer) PickSession(now time.Duration, candidates []Candidate, a *Attempt) (int, Reason) {
	return b.pick(now, candidates, a, true)
}

// share draws one of the healthy candidates of a tier. Those whose slow start
// lets the request pass are drawn only if there is no other.
func (b *Balancer) share(candidates []Candidate, tier int) int {
	rests := true
	for i := range b.scratch {
		if s := &b.scratch[i]; s.rank == healthy && candidates[i].Tier == tier && !s.rests {
			rests = false
		}
	}
	chosen, sum := -1, 0.0
	for i := range b.scratch {
		s := &b.scratch[i]
		if s.rank != healthy || candidates[i].Tier != tier || s.rests != rests {
			continue
		}
		share := b.views[i].weight / s.score
		if sum += share; b.rng.Float64()*sum < share { // the first always is
			chosen = i
		}
	}
	return chosen
}

// wished returns the candidate with the highest affinity below a limit, -1 if
// there is none.
func wished(candidates []Candidate, below float64) int {
	best := -1
	for i := range candidates {
		if f := candidates[i].Affinity; f > 0 && f < below && (best < 0 || f > candidates[best].Affinity) {
			best = i
		}
	}
	return best
}

// pin says whether a wish is to be met. Called with the lock held, after
// survey.
func (b *Balancer) pin(candidates []Candidate, i int) Pin {
	c, v := &candidates[i], &b.views[i]
	switch {
	case v.drained:
		return PinDrained
	case c.Tries > 0:
		return PinTried
	case c.Down, v.hung, v.worst > 0 && !v.byLoad, v.state == open, v.state == halfOpen && c.Node.breaker.probing.Load():
		return PinOut
	}
	expected := v.latency * v.sober * congestion((c.load()+v.others)*v.perKnee)
	if c.NoRoom() && b.backlog != nil && v.state == closed && !b.overloaded(candidates, i, expected+c.Backlog.Seconds()) {
		return PinWaits
	}
	switch {
	case c.NoRoom():
		return PinFull
	case b.overloaded(candidates, i, expected):
		return PinOverloaded
	}
	return PinKept
}

// overloaded compares the time to first byte to expect of a pinned node, in
// seconds, with that of the best other one that could take the request. Lesser
// tiers don't count: load alone never makes a request spill.
func (b *Balancer) overloaded(candidates []Candidate, pinned int, expected float64) bool {
	least := math.Inf(1)
	for i := range b.scratch {
		s := &b.scratch[i]
		if i != pinned && s.rank == healthy && !s.rests && candidates[i].Tier <= candidates[pinned].Tier {
			least = min(least, s.score)
		}
	}
	return expected > pinFactor*least && expected > least+pinSlack.Seconds()
}
