package balance

import "time"

// Explanation is what one pick would make of one candidate.
type Explanation struct {
	Addr    string
	State   State
	Factors Factors
	Score   float64
	// Avoided are the rules for which the node is avoided, Hung whether it is
	// because it has been silent for long.
	Avoided []AvoidRule
	Hung    bool
}

// Explain returns, for each candidate, the factors a pick at this time would
// weigh. It changes nothing.
func (b *Balancer) Explain(now time.Duration, candidates []Candidate) []Explanation {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pool.size == 0 { // no pick yet; the next one sees for itself
		b.refresh(now, candidates)
		b.pool.size = 0
	}
	all := make([]Explanation, len(candidates))
	for i := range candidates {
		c := &candidates[i]
		var v view
		b.look(now, c, &v)
		f := v.factors(c)
		state := c.Node.State(now, b.slowStart)
		switch {
		case state == Draining, state == Drained:
		case c.Down:
			state = Down
		case state == Up && f.Warmth < 1:
			state = SlowStart
		}
		if v.shuns() && (state == Up || state == SlowStart) {
			state = Avoided
		}
		e := Explanation{Addr: c.Node.Addr(), State: state, Factors: f, Score: f.Score(), Hung: v.hung}
		for _, a := range c.Avoid {
			if a.Holds(now) {
				e.Avoided = append(e.Avoided, a.rule)
			}
		}
		all[i] = e
	}
	return all
}
