package balance

// Factors are what a score is made of, kept apart so that a pick can be
// explained.
type Factors struct {
	// Latency is the expected time to first byte, in seconds, of a request
	// that finds fewer than Knee others at the node.
	Latency float64
	// Slowdown is the factor in Latency for a change in others' work on the
	// GPU since latency was last measured, 1 if there is none.
	Slowdown float64
	// Load is the number of requests the node would have with this one.
	Load float64
	// Knee is up to how many requests the node serves without slowing down.
	Knee float64
	// Weight is the node's relative capacity: it stands in for the knee until
	// that is learned, and decides among near ties.
	Weight float64
	// Warmth is the share of its requests that the node gets in slow start, 1
	// otherwise.
	Warmth float64
}

// Score is the expected time to first byte of the next request in seconds: the
// shortest expected delay wins, as queueing theory has it for servers that are
// told apart by their speed.
func (f *Factors) Score() float64 {
	return f.Latency * congestion(f.Load/f.Knee)
}
