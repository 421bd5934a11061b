package balance

import (
	"sync/atomic"
	"time"
)

// DefaultSlowStart is how long a node that joins or recovers is spared: models
// load lazily, caches are cold, and an empty node looks ideal to every
// gateway at once.
const DefaultSlowStart = 30 * time.Second

const (
	// minWarmth is Envoy's min_weight_percent: with less, a node would get no
	// request from which to learn its latency.
	minWarmth = 0.1

	// A node that was only out of reach need not be spared for as long as one
	// whose process is new, and only its answers tell the two apart: each that
	// takes no more than warmRatio of what its answers usually take counts for
	// a part of 1/warmAnswers of the slow start. A region of nodes that were
	// cut off is back within seconds, and still gradually.
	warmAnswers = 8
	warmRatio   = 1.5

	// usualKeep is what an answer leaves of the usual latency.
	usualKeep = 0.98
)

// warmup is the slow start of a node. Written under the node's lock, its
// atomic fields read without it.
type warmup struct {
	since  atomic.Int64  // when it joined or recovered, 0 once warm
	proofs atomic.Int64  // answers as fast as usual since then
	usual  atomic.Uint64 // float64 bits of the seconds that answers take when warm, 0 while unknown

	proving bool          // a slow start goes on, perhaps one that only a caller sees
	began   time.Duration // when it began
}

// restart begins a slow start. Called with the node's lock held.
func (w *warmup) restart(now time.Duration) {
	w.proven(now) // first: what was proven must not end this one
	w.since.Store(int64(now))
}

// proven forgets what was proven.
func (w *warmup) proven(now time.Duration) {
	w.proving, w.began = true, now
	w.proofs.Store(0)
}

// answer takes in how long an answer took to a request that began at a time.
func (w *warmup) answer(now, began time.Duration, took float64) {
	if w.proving && (w.proofs.Load() >= warmAnswers || now-w.began >= DefaultSlowStart) {
		w.proving = false
	}
	switch usual := load(&w.usual); {
	case !w.proving && usual == 0:
		store(&w.usual, took)
	case !w.proving:
		store(&w.usual, usual*usualKeep+took*(1-usualKeep))
	case usual != 0 && began >= w.began && took <= warmRatio*usual:
		w.proofs.Add(1)
	}
}

// window is how many requests the node may have in a slow start whatever its
// share, as in TCP's: one, and one more for each answer that proved something.
// Of a tenth of the requests it is chance who gets none for long, and of two
// nodes that are back together the other one then has to do all. A node that
// is new can prove nothing and has no window.
func (w *warmup) window() int64 {
	if w.usual.Load() == 0 {
		return 0
	}
	return 1 + w.proofs.Load()
}

// warmth is the share of its requests that the node gets when it joined or
// recovered at the given time (0: it never did): as much of the slow start as
// has passed, as HAProxy's slowstart, or has been proven unnecessary. A
// slowStart of 0 or less is none.
func (w *warmup) warmth(now, since, slowStart time.Duration) float64 {
	if since == 0 || now-since >= slowStart {
		return 1
	}
	passed := float64(now-since) / float64(slowStart)
	return min(1, max(minWarmth, passed+float64(w.proofs.Load())/warmAnswers))
}
