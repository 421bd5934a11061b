package balance

import "time"

// DefaultSlowStart is how long a node that joins or recovers is spared: models
// load lazily, caches are cold, and an empty node looks ideal to every
// gateway at once.
const DefaultSlowStart = 30 * time.Second

// minWarmth is Envoy's min_weight_percent: with less, a node would get no
// request from which to learn its latency.
const minWarmth = 0.1

// warmth is the share of its weight that a node counts with when it joined or
// recovered at the given time (0: it never did), growing linearly to 1 as
// HAProxy's slowstart. A slowStart of 0 or less is none.
func warmth(now, since, slowStart time.Duration) float64 {
	if since == 0 || now-since >= slowStart {
		return 1
	}
	return max(minWarmth, float64(now-since)/float64(slowStart))
}
