package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// A request that a node leaves unanswered for longer than its record explains is
// sent to a second node, and the first good answer wins: the hedged requests of
// Dean and Barroso ("The Tail at Scale", 2013), which they send once the first
// is beyond the 95th percentile of its class. Theirs are to cut the tail of
// healthy servers, where a twentieth more work is cheap. A model's long answers
// are its dearest, so ours wait until chance no longer explains the silence:
//
//	patience = max(100 ms, 2 × longest × max(1, load / knee))
//
// Longest is the longest time to first byte that the node needed of late, with
// what it waited behind others at the node taken out, as in latency.go; that
// comes in again for the load which this request has found.
const (
	// hedgeFloor is what nobody notices: up to a tenth of a second an answer
	// feels immediate (Nielsen, Usability Engineering, 1993, after Miller,
	// 1968). A pause of the gateway or the network is seldom longer.
	hedgeFloor = 100 * time.Millisecond

	// hedgeMargin keeps chance out: of lognormal service times with sigma 0.5
	// one in 2,500 exceeds twice the longest (TestHardlyAnyHealthyRequestIs-
	// Overdue).
	hedgeMargin = 2

	// recordKeep is what an answer leaves of the distance between the longest
	// and the average: it halves within 140 answers. What one request in 200
	// needs is part of the record that way, as long texts should be.
	recordKeep = 0.995

	// recordMinimum are the answers that make a record. Until then that of the
	// pool counts, and without one nothing is hedged.
	recordMinimum = 10

	// strangerMargin is what a node is granted that is judged by the record of
	// others: it may be slower, and cold.
	strangerMargin = 2

	// lostFor is how long the silence counts of which a node was found guilty
	// by an answer from elsewhere, unless it answers; then it is tried again.
	// It is the length of a first ejection.
	lostFor = ejectionBase
)

// record is how long a node's answers have taken at most. Written under the
// node's lock, read without it.
type record struct {
	longest atomic.Uint64 // float64 bits of seconds
	answers atomic.Int32  // up to recordMinimum
}

// answer takes in a time to first byte with room at the node, given the average.
func (r *record) answer(sample, average float64) {
	longest := math.Float64frombits(r.longest.Load())
	longest = max(sample, average+(longest-average)*recordKeep)
	r.longest.Store(math.Float64bits(longest))
	if n := r.answers.Load(); n < recordMinimum {
		r.answers.Store(n + 1)
	}
}

// value returns the longest in seconds, 0 while there is no record.
func (r *record) value() float64 {
	if r.answers.Load() < recordMinimum {
		return 0
	}
	return math.Float64frombits(r.longest.Load())
}

func (r *record) forget() {
	r.answers.Store(0)
	r.longest.Store(0)
}

// Patience returns for how much longer chance would explain that the node has
// not answered; ok is false while nothing is known of it.
func (a *Attempt) Patience(now time.Duration) (left time.Duration, ok bool) {
	longest := a.node.latency.record.value()
	if longest == 0 {
		longest = strangerMargin * a.pool
	}
	if longest == 0 {
		return 0, false
	}
	knee, _ := a.node.knee.value()
	patience := hedgeMargin * longest * max(1, float64(a.load)/knee)
	return a.began + max(hedgeFloor, time.Duration(patience*float64(time.Second))) - now, true
}

// PickOther is Pick for a hedge: it returns the index of a node that nothing
// speaks against, that has room and that the request was not tried at, or -1.
func (b *Balancer) PickOther(now time.Duration, candidates []Candidate, a *Attempt) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	chosen, _ := b.choose(now, candidates, false)
	if chosen < 0 || b.scratch[chosen].rank != healthy || !b.reserve(now, &candidates[chosen], a, false, b.views[chosen].others) {
		return -1
	}
	candidates[chosen].Node.picks[Hedge].Add(1)
	return chosen
}

// Lose is EndFor for an attempt that is called off because another node has
// answered in its place. If the node has shown no sign of life since, its
// silence goes on to count against it, until it answers or has had time to come
// round; a node that is merely slow answers others.
func (a *Attempt) Lose(now time.Duration, q *Queue) {
	a.node.mu.Lock()
	a.resume(now)
	if a.phase == waiting {
		a.node.latency.lose(now, a.waiting)
		a.node.heard()
	}
	a.node.mu.Unlock()
	a.EndFor(now, q)
}

// lose notes that a request which waited since a time was answered elsewhere.
func (l *latency) lose(now, since time.Duration) {
	if lost := time.Duration(l.lost.Load()); lost != 0 && int64(lost) > l.answered.Load() && int64(now) < l.lostUntil.Load() {
		since = min(since, lost)
	}
	l.lost.Store(int64(since))
	l.lostUntil.Store(int64(now + lostFor))
}

// unanswered is since when the node owes an answer, 0 if it owes none: to the
// oldest request in flight, or to one that was called off for its silence.
func (l *latency) unanswered(now time.Duration) int64 {
	oldest := l.oldest.Load()
	lost := l.lost.Load()
	if lost == 0 || lost <= l.answered.Load() || int64(now) >= l.lostUntil.Load() {
		return oldest
	}
	if oldest == 0 {
		return lost
	}
	return min(oldest, lost)
}
