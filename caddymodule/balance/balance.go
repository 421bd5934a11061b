// Package balance decides which node gets the next request, from what the
// gateway has itself seen of each node (requests in flight, time to the first
// byte, failures), what nodes say of themselves, and what operators ordered.
//
// A node's score is the time to first byte to expect of one more request, and
// the lowest wins:
//
//	score = latency × congestion(load / knee)
//
//	latency   with room at the node, in seconds                       latency.go
//	          and with what others do on its GPU                      foreign.go
//	load      requests in flight, this one, and others' (telemetry.go)
//	knee      up to how many requests latency does not rise           knee.go
//
// Weights stand in for knees that are not yet known, and share out near ties.
// Before scores are compared, a node must be eligible: healthy, not full, not
// ejected (breaker.go), not avoided (avoid.go), in the tier this request falls
// to (tier.go), and not spared for its slow start (warmth.go). When no node
// is, the pick tries anyway (pick.go). Only an operator's order to drain a
// node (orders.go) holds even then.
//
// The package starts no goroutines and never looks at a clock. Every time is a
// time.Duration since an epoch of the caller's choosing, which all callers
// sharing a node must share too; it must be positive, for zero stands for
// "never". Randomness comes from the seed given to New. Hours can therefore be
// replayed in milliseconds, and twice alike.
package balance
