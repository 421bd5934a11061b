// Package balance decides which node gets the next request, from nothing but
// what the gateway has itself seen of each node: requests in flight, time to
// the first byte, failures.
//
// A node's score is the expected cost of sending it one more request, and the
// lowest wins:
//
//	score = latency × load / (weight × warmth)
//
//	latency   expected time to the first byte, in seconds   latency.go
//	load      requests in flight, and this one              node.go
//	weight    relative capacity, as configured or ordered (orders.go)
//	warmth    slow start after joining or recovering        warmth.go
//
// Before scores are compared, a node must be eligible: healthy, not full, not
// ejected (breaker.go), in the tier this request falls to (tier.go). When no
// node is, the pick tries anyway (pick.go). Only an operator's order to drain
// a node (orders.go) holds even then.
//
// The package starts no goroutines and never looks at a clock. Every time is a
// time.Duration since an epoch of the caller's choosing, which all callers
// sharing a node must share too; it must be positive, for zero stands for
// "never". Randomness comes from the seed given to New. Hours can therefore be
// replayed in milliseconds, and twice alike.
package balance
