package balance

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// latencyMemory is the time constant of the moving average: two seconds
	// old samples weigh 1/e. From the simulations in which the score was
	// chosen; Finagle and Linkerd use 10 s but let single peaks through.
	latencyMemory = 2 * time.Second

	// latencyMaxKeep bounds what one sample may leave of the old average, so
	// that a busy node's average still spans no more than about 20 answers.
	latencyMaxKeep = 0.95

	// latencyIdle is the time constant with which the average of a node that
	// gets no requests moves to the median of its tier: its logarithm does, so
	// that a thousand times the median is forgotten within 25 s. Without it a node
	// once found slow would never be asked again (nginx's least_time halves
	// the average of idle peers for the same reason).
	latencyIdle = 6 * time.Second

	// latencyOverdue is how many times its expected latency a node must have
	// been silent to prove the expectation wrong: its silence counts instead,
	// at once, where an average of answers learns of a slow node only when it
	// answers. The idea is that of nginx's least_time, max(average, age of the
	// request in flight). But the longest of several waiting requests is often
	// beyond the average by chance: counting every age cost a sixth of p99 in
	// the simulator, counting none let a hung node hold up more requests. Four
	// is three standard deviations of a lognormal service time with sigma 0.5.
	latencyOverdue = 4

	// latencyHung is the silence, if it is overdue, from which a node gets no
	// more requests while another can serve.
	latencyHung = time.Second

	// latencyUnknown is assumed while no node of a pool has answered yet
	// (Linkerd's default_rtt). Nodes are then equal, whatever the value; it
	// only says after how long a first unanswered request makes its node
	// look slow.
	latencyUnknown = 30 * time.Millisecond

	// failureLatency is what a failure counts as, unless the node's latency
	// or its Retry-After (up to maxRetryAfter) is longer. A node that fails
	// in a millisecond must look slow, not fast, or it draws all traffic.
	// 5 s is the constant of Linkerd's load biaser.
	failureLatency = 5 * time.Second
	maxRetryAfter  = 60 * time.Second
)

// latency estimates a node's time to first byte while it has no more requests
// than its knee and nobody else works on its GPU: see knee.go and foreign.go
// for what comes on top. It is written under the node's lock and read without
// it, so that a pick over many nodes takes no lock of theirs; a reader that
// sees one field newer than another errs by one sample.
type latency struct {
	average  atomic.Uint64 // float64 bits of seconds; 0: no sample yet
	answers  atomic.Uint64 // the same of answers alone, without failures
	at       atomic.Int64  // of the newest sample
	oldest   atomic.Int64  // since when the longest unanswered request waits; 0: none does
	answered atomic.Int64  // when the node last gave a sign of life

	record record
	lost   atomic.Int64 // since when a request waited that was answered elsewhere
	// lostUntil is until when that counts.
	lostUntil atomic.Int64
}

// observe takes a sample into the average, and returns the weight that it left
// the old average and the time since the sample before.
func (l *latency) observe(now time.Duration, sample float64) (keep float64, since time.Duration) {
	answers := load(&l.answers)
	keep, since = l.fail(now, sample)
	if answers == 0 {
		answers = sample
	}
	l.answers.Store(math.Float64bits(max(answers*keep+sample*(1-keep), 1e-6)))
	return keep, since
}

// fail is observe for a sample that stands for a failure.
func (l *latency) fail(now time.Duration, sample float64) (keep float64, since time.Duration) {
	old := l.known()
	if old == 0 {
		l.set(now, sample)
		return 0, 0
	}
	since = max(0, now-time.Duration(l.at.Load()))
	keep = min(latencyMaxKeep, math.Exp(-float64(since)/float64(latencyMemory)))
	l.set(now, old*keep+sample*(1-keep))
	return keep, since
}

// sober is the part of the average that answers alone account for, 1 if there
// were none: a node that has failed one request looks slow, so that it gets
// fewer, but those pinned to it must not flee from it as from an overload.
func (l *latency) sober() float64 {
	if answers := load(&l.answers); answers != 0 {
		return min(1, answers/l.known())
	}
	return 1
}

func (l *latency) set(now time.Duration, seconds float64) {
	// A sample of zero would mean "unknown".
	l.average.Store(math.Float64bits(max(seconds, 1e-6)))
	l.at.Store(int64(now))
}

// forget returns to "no sample yet": what was measured before a node failed
// says little about the process that came back.
func (l *latency) forget() {
	l.average.Store(0)
	l.record.forget()
	l.lost.Store(0)
	l.answers.Store(0)
}

// known returns the average in seconds, 0 if there is none.
func (l *latency) known() float64 { return math.Float64frombits(l.average.Load()) }

// estimate returns the average to reckon with, in seconds, given the median of
// the node's tier.
func (l *latency) estimate(now time.Duration, median float64) float64 {
	estimate := l.known()
	if estimate == 0 {
		return median
	}
	if l.oldest.Load() == 0 {
		if idle := now - time.Duration(l.at.Load()); idle > latencyIdle/100 {
			// By ratio and not by difference: a request that was cut off for
			// twenty seconds would otherwise keep a node of twenty
			// milliseconds out for a minute.
			kept := math.Exp(float64(idle) * (-1 / float64(latencyIdle)))
			return median * math.Exp(kept*math.Log(estimate/median))
		}
	}
	return estimate
}

// silence is how long requests have waited at the node without a sign of life
// from it, in seconds. One long request among others that are answered is no
// silence.
func (l *latency) silence(now time.Duration) float64 {
	since := l.unanswered(now)
	if since == 0 {
		return 0
	}
	return (now - time.Duration(max(since, l.answered.Load()))).Seconds()
}

// failureSample is what an answer that was none counts as, in seconds.
func failureSample(retryAfter time.Duration, average float64) float64 {
	return max(failureLatency.Seconds(), min(retryAfter, maxRetryAfter).Seconds(), average)
}

// Answered tells whether the node has given a sign of life since a time.
func (n *Node) Answered(since time.Duration) bool {
	answered := time.Duration(n.latency.answered.Load())
	return answered != 0 && answered >= since
}

// Working tells whether a node that has answered before has not yet had the
// requests it works on for longer than they may well take. A server of one
// worker answers nothing else meanwhile.
func (n *Node) Working(now time.Duration) bool {
	if n.latency.answered.Load() == 0 {
		return false
	}
	silence := n.latency.silence(now)
	knee, _ := n.knee.value()
	longer := max(1, float64(n.InFlight())/knee)
	return silence > 0 && silence <= latencyOverdue*n.latency.known()*longer
}
