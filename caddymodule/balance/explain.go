package balance

import "time"

// Explanation is what one pick would make of one candidate.
type Explanation struct {
	Addr    string
	State   State
	Factors Factors
	Score   float64
}

// Explain returns, for each candidate, the factors a pick at this time would
// weigh. It changes nothing.
func (b *Balancer) Explain(now time.Duration, candidates []Candidate) []Explanation {
	b.mu.Lock()
	median := b.medianLatency(now, candidates)
	b.mu.Unlock()
	all := make([]Explanation, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		f := Factors{
			Latency: c.Node.latency.expected(now, median),
			Load:    c.load(),
			Weight:  c.weight(),
			Warmth:  c.warmth(now, b.slowStart),
		}
		state := c.Node.State(now, b.slowStart)
		switch {
		case state == Draining, state == Drained:
		case c.Down:
			state = Down
		case state == Up && f.Warmth < 1:
			state = SlowStart
		}
		all[i] = Explanation{Addr: c.Node.Addr(), State: state, Factors: f, Score: f.Score()}
	}
	return all
}
