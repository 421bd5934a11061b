package balance

// Factors are the parts of a score, kept apart so that a pick can be explained.
type Factors struct {
	// Latency is the expected time to first byte in seconds.
	Latency float64
	// Load is the number of requests the node would have with this one.
	Load float64
	// Weight is the node's relative capacity.
	Weight float64
	// Warmth is 1, or less during slow start.
	Warmth float64
}

// Score is the expected cost of the next request in seconds per unit of
// capacity. Latency × (in flight + 1) is the cost function of Finagle's peak
// EWMA, nginx's least_time and Traefik's leasttime.
func (f Factors) Score() float64 {
	return f.Latency * f.Load / (f.Weight * f.Warmth)
}
