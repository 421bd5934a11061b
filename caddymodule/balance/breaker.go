package balance

import (
	"sync/atomic"
	"time"
)

// Breaker says when failures eject a node. Several pools may share a node and
// differ in this; each failure is judged by the rule of the pool whose request
// failed.
type Breaker struct {
	// Failures in a row that eject a node. 0 never ejects, by ratio neither.
	Failures int
}

// DefaultFailures is Envoy's consecutive_5xx.
const DefaultFailures = 5

const (
	// A node is also ejected when fewer than half of at least ratioMinimum
	// requests within ratioWindow succeeded: failures between successes
	// never come five in a row (Linkerd's breaker counts both ways too).
	ratioWindow  = 10 * time.Second
	ratioMinimum = 20

	// Ejection lasts 5 s × 2^n, at most 300 s, ±20 % so that gateways and
	// nodes that failed together do not probe together (Envoy: 30 s × n up
	// to 300 s; ours begins lower because a probe costs one request).
	ejectionBase   = 5 * time.Second
	ejectionMax    = 300 * time.Second
	ejectionJitter = 0.2

	// ejectionForget is how long a node must serve for one doubling to be
	// forgotten.
	ejectionForget = time.Minute
)

// breaker ejects a node that keeps failing and lets it back by one probing
// request at a time. Like latency, it is written under the node's lock and
// its atomic fields are read without it.
type breaker struct {
	until   atomic.Int64 // end of the ejection, 0 while closed; half open once past
	probing atomic.Bool  // a probing request is under way

	// failing is consecutive for readers without the lock.
	failing atomic.Int32

	since       time.Duration // of the present ejection, or of its end when closed
	doublings   int
	consecutive int
	window      [10]struct{ second, failed, succeeded int64 }
}

// jitter returns a number in [0, 1) that nobody else comes to at the same
// instant (the finaliser of SplitMix64).
func jitter(seed uint64, now time.Duration) float64 {
	z := seed + uint64(now)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

type circuit uint8

const (
	closed circuit = iota
	open
	halfOpen
)

func (b *breaker) circuit(now time.Duration) circuit {
	switch until := b.until.Load(); {
	case until == 0:
		return closed
	case int64(now) < until:
		return open
	default:
		return halfOpen
	}
}

// fail counts a failed request that began at the given time, and reports
// whether it ejects the node. jitter is uniform in [0, 1).
func (b *breaker) fail(now, began time.Duration, rule Breaker, jitter float64) (ejected bool) {
	if b.since != 0 && began < b.since {
		return false // a straggler from before the ejection or the recovery
	}
	b.count(now, false)
	if rule.Failures == 0 {
		return false
	}
	switch b.circuit(now) {
	case open:
		// Picked because all is lost: no sign that it will need longer.
		return false
	case halfOpen:
		b.doublings++
	case closed:
		if b.consecutive < rule.Failures && !b.mostlyFailing(now) {
			return false
		}
		if b.since != 0 { // ejected before
			served := int((now - b.since) / ejectionForget)
			b.doublings = max(0, b.doublings+1-served)
		}
	}
	length := ejectionBase << min(b.doublings, 10)
	length = min(length, ejectionMax)
	length = time.Duration(float64(length) * (1 - ejectionJitter + 2*ejectionJitter*jitter))
	b.since = now
	b.until.Store(int64(now + length))
	return true
}

// shorten ends an ejection early, so that a probe finds out.
func (b *breaker) shorten(now time.Duration) {
	if b.circuit(now) == open {
		b.until.Store(int64(now))
	}
}

// succeed hears of a good answer to a request that began at the given time,
// and reports whether it ends an ejection: any that began after it does,
// whether a probe or a pick made because all was lost.
func (b *breaker) succeed(now, began time.Duration) (recovered bool) {
	if b.until.Load() == 0 || began < b.since {
		return false
	}
	b.until.Store(0)
	b.since = now
	b.consecutive = 0
	b.failing.Store(0)
	clear(b.window[:])
	return true
}

// count takes a completed request into the window.
func (b *breaker) count(now time.Duration, success bool) {
	second := int64(now / time.Second)
	slot := &b.window[second%int64(len(b.window))]
	if slot.second != second {
		slot.second, slot.failed, slot.succeeded = second, 0, 0
	}
	if success {
		slot.succeeded++
		b.consecutive = 0
	} else {
		slot.failed++
		b.consecutive++
	}
	b.failing.Store(int32(min(b.consecutive, 1000)))
}

func (b *breaker) mostlyFailing(now time.Duration) bool {
	from := int64((now - ratioWindow) / time.Second)
	var failed, succeeded int64
	for i := range b.window {
		if b.window[i].second > from {
			failed += b.window[i].failed
			succeeded += b.window[i].succeeded
		}
	}
	return failed+succeeded >= ratioMinimum && succeeded < failed
}
