package balance

import "time"

// learnedLimit is this package's limit in the simulator.
type learnedLimit struct{ *Limit }

func newLearned(clock time.Duration) flowLimit { return learnedLimit{NewLimit(clock)} }

func (l learnedLimit) limit(time.Duration) int { return l.Now() }
func (l learnedLimit) done(now, began time.Duration, inFlight int, v Verdict) {
	l.Done(now, began, inFlight, v)
}
