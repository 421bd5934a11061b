package balance

import (
	"slices"
	"time"
)

// recentAnswers is how many answers are remembered one by one: with 128 the
// 95th percentile stands on the six slowest.
const recentAnswers = 128

// recent remembers how long the node's last answers took to their first byte,
// as clients had to wait for them. It is for people: picks go by latency.go.
// Guarded by the node's lock.
type recent struct {
	next  int
	slots [recentAnswers]struct {
		at      time.Duration // 0: unused
		seconds float64
	}
}

func (r *recent) add(now time.Duration, seconds float64) {
	r.slots[r.next].at, r.slots[r.next].seconds = now, seconds
	r.next = (r.next + 1) % recentAnswers
}

// Quantiles returns quantiles, each 0 to 1, of the time to first byte of the
// last answers not older than a time; ok is false if there are none.
func (n *Node) Quantiles(now, within time.Duration, quantiles ...float64) (values []time.Duration, ok bool) {
	var seconds [recentAnswers]float64
	known := seconds[:0]
	n.mu.Lock()
	for i := range n.recent.slots {
		if s := &n.recent.slots[i]; s.at != 0 && now-s.at <= within {
			known = append(known, s.seconds)
		}
	}
	n.mu.Unlock()
	if len(known) == 0 {
		return nil, false
	}
	slices.Sort(known)
	for _, q := range quantiles {
		i := min(len(known)-1, int(q*float64(len(known))))
		values = append(values, time.Duration(known[i]*float64(time.Second)))
	}
	return values, true
}
