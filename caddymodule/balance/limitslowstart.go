package balance

import "time"

const (
	// slowStartStop is how many times longer than before a node may take for
	// the limit still to be doubled. A FIFO or sharing node takes twice as long
	// when the limit is twice its knee; one and a half tells that from chance
	// with few answers.
	slowStartStop = 1.5

	// slowStartRound is how many answers a round needs at least.
	slowStartRound = 4

	// slowStartForget is how long a round may last before all is measured anew:
	// so long a node was not held at its limit.
	slowStartForget = limitMaxSlot
)

// slowStart is what a limit does before it knows anything: it doubles about
// once a latency, as TCP's congestion window does, until the answers take
// longer. The load of a lost region finds nodes that nobody has ever kept
// busy, and can't wait for as many answers as it takes to know their knee. As
// in HyStart (Ha and Rhee, 2011), the sign to stop is the latency of a round,
// which is of requests that began after the limit was set. A latency that
// rises may have other reasons; what stops too early, the search makes up for.
type slowStart struct {
	began         time.Duration // of this round
	round, before limitLevel
}

// observe hears of an answer while the limit is the given one, and reports
// whether it ends a round.
func (s *slowStart) observe(now, began time.Duration, inFlight, limit int) (ended bool) {
	if now-s.began > slowStartForget {
		*s = slowStart{began: began}
	}
	switch {
	case began < s.began:
		return false
	case 2*inFlight <= limit: // the limit before would have done
		s.round = limitLevel{}
		return false
	case 4*inFlight >= 3*limit:
		s.round.add(limitLevel{1, (now - began).Seconds(), float64(inFlight)})
	}
	return s.round.answers >= max(slowStartRound, float64(limit)/2)
}

// slower reports whether the round that ended shows that the node has no use
// for more.
func (s *slowStart) slower() bool {
	return s.before.answers > 0 && s.round.latency() > slowStartStop*s.before.latency()
}

// next begins another round.
func (s *slowStart) next(now time.Duration) {
	s.before.add(s.round)
	s.began, s.round = now, limitLevel{}
}
