package balance

import "time"

// Attempt is one try of one request at one node, from the pick that reserved
// it to its end. Its zero value is for Balancer.Pick to fill. Whatever the
// order and number of calls, and from whatever goroutines, an attempt takes
// its place in its node's count once and gives it back once, by End.
type Attempt struct {
	node     *Node
	balancer *Balancer

	// Guarded by the node's lock.
	prev, next *Attempt
	phase      phase
	probe      bool
	good       bool          // answered well, and not yet counted so
	began      time.Duration // when it was picked
	waiting    time.Duration // since when it waits for the node, pauses taken out
	paused     time.Duration
	load       int     // requests at the node with this one, when it was picked
	place      int     // the same, of ours alone
	pool       float64 // the longest that answers of the pool take, see Patience
	verdict    Verdict
}

type phase uint8

const (
	unused   phase = iota
	waiting        // for the first byte
	pausing        // waiting for the client, not for the node
	answered       // the first byte or an error is there
	ended
)

// Verdict is what an answer says about its node.
type Verdict uint8

const (
	// Served is an answer whose time to first byte tells the node's speed.
	Served Verdict = iota
	// Alive is an answer whose speed says nothing of the node's: a refusal
	// that the request was at fault for, an upgraded connection.
	Alive
	// Busy is an answer of a node that lives and has no room. It counts as a
	// slow answer, not as a failure.
	Busy
	// Failed is an error or an answer that the node is at fault for. It
	// counts as a slow answer and towards ejection.
	Failed
)

// Node returns the node that was picked.
func (a *Attempt) Node() *Node { return a.node }

// begin reserves the node, unless it is drained or has become full. Called by
// Pick.
func (a *Attempt) begin(b *Balancer, c *Candidate, now time.Duration, probe bool, load int) bool {
	n := c.Node
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.drained() || c.Limit > 0 && n.inFlight.Load() >= int64(c.Limit) {
		return false
	}
	*a = Attempt{node: n, balancer: b, phase: waiting, probe: probe, began: now, waiting: now, load: load, pool: b.pool.longest}
	n.history.advance(now, n.inFlight.Load())
	a.place = int(n.inFlight.Add(1))
	n.insert(a)
	return true
}

// Pause says that the attempt now waits for the client (for the next part of
// its upload): its clock stands still until Resume, so that slow clients do
// not make a node look slow.
func (a *Attempt) Pause(now time.Duration) {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	if a.phase == waiting {
		a.phase, a.paused = pausing, now
		a.node.remove(a)
	}
}

// Resume ends a pause.
func (a *Attempt) Resume(now time.Duration) {
	a.node.mu.Lock()
	defer a.node.mu.Unlock()
	a.resume(now)
}

func (a *Attempt) resume(now time.Duration) {
	if a.phase == pausing {
		a.phase = waiting
		a.waiting += now - a.paused
		a.node.insert(a)
	}
}

// Answer says that the first byte arrived, or that none will. retryAfter is
// what a Busy or Failed answer asked for, 0 if nothing. Only the first call
// counts.
func (a *Attempt) Answer(now time.Duration, v Verdict, retryAfter time.Duration) {
	n := a.node
	n.mu.Lock()
	a.resume(now)
	if a.phase != waiting {
		n.mu.Unlock()
		return
	}
	a.phase, a.verdict = answered, v
	n.remove(a)

	var changed change
	switch v {
	case Served:
		changed = a.succeed(now)
		a.measure(now)
		n.latency.answered.Store(int64(now))
	case Alive:
		changed = a.succeed(now)
		n.latency.answered.Store(int64(now))
	case Busy:
		changed = a.succeed(now)
		n.latency.answered.Store(int64(now))
		n.latency.observe(now, failureSample(retryAfter, n.latency.known()))
	case Failed:
		changed = a.fail(now)
		if !a.outdated() {
			n.latency.fail(now, failureSample(retryAfter, n.latency.known()))
		}
	}
	n.heard()
	n.mu.Unlock()
	a.balancer.report(now, n, changed)
}

// measure learns from a time to first byte: the knee from how it grows with
// the requests in flight, the average from what is left when that growth is
// taken out.
func (a *Attempt) measure(now time.Duration) {
	n := a.node
	waited := (now - a.waiting).Seconds()
	knee, _ := n.knee.value()
	unhindered := waited / max(1, float64(a.load)/knee)
	keep, since := n.latency.observe(now, unhindered)
	n.latency.record.answer(unhindered, n.latency.known())
	n.knee.learn(waited, a.load, keep, since)
	n.recent.add(now, waited)
	n.warmup.answer(now, a.began, unhindered)
	if t := &n.told; t.learned {
		t.reference = t.reference*keep + load(&t.foreign)*(1-keep)
		t.renewed = 1 - (1-t.renewed)*keep
		n.compare()
	}
}

// Break says that the node broke off its answer after the first byte. It
// counts towards ejection.
func (a *Attempt) Break(now time.Duration) {
	n := a.node
	n.mu.Lock()
	var changed change
	if a.phase == answered && a.good {
		a.good = false
		changed = a.fail(now)
		n.heard()
	}
	n.mu.Unlock()
	a.balancer.report(now, n, changed)
}

// End gives the reservation back. An attempt that ends unanswered was called
// off: the node is at least as slow as the attempt has waited, and that is
// all there is to learn.
func (a *Attempt) End(now time.Duration) { a.EndFor(now, nil) }

// EndFor is End for a request that waited in a queue, or could have: its node's
// room goes to those who wait.
func (a *Attempt) EndFor(now time.Duration, q *Queue) {
	n := a.node
	n.mu.Lock()
	took, ended := now-a.waiting, a.phase != ended && a.phase != unused
	changed := a.end(now)
	n.mu.Unlock()
	a.balancer.report(now, n, changed)
	if ended {
		n.audience.Answered(q, took)
	}
}

func (a *Attempt) end(now time.Duration) change {
	n := a.node
	a.resume(now)
	switch a.phase {
	case waiting:
		n.remove(a)
		if waited := (now - a.waiting).Seconds(); waited > n.latency.known() && n.latency.known() != 0 && !a.outdated() {
			n.latency.observe(now, waited)
			n.heard()
		}
	case answered:
		// A validation error or a websocket tells nothing of what the node can do.
		if l := n.limit.Load(); l != nil && a.verdict != Alive {
			l.Done(now, a.waiting, a.place, a.verdict)
		}
	default:
		return change{}
	}
	a.phase = ended
	if a.good {
		n.breaker.count(now, true)
	}
	a.giveUpProbe()
	n.history.advance(now, n.inFlight.Load())
	if n.inFlight.Add(-1) == 0 && n.drained() {
		return change{Draining, Drained, "its last request ended"}
	}
	return change{}
}

// outdated tells whether the node has recovered since the attempt began: what a
// process that hung still owes says nothing about it now. Called with the lock
// held.
func (a *Attempt) outdated() bool { return a.began < a.node.warmup.began }

// giveUpProbe lets the next probe come. Called with the lock held.
func (a *Attempt) giveUpProbe() {
	if a.probe {
		a.probe = false
		a.node.breaker.probing.Store(false)
	}
}

// succeed ends an ejection with the first byte. A success is counted only when
// the answer is complete, so that a node that breaks off each one is ejected.
func (a *Attempt) succeed(now time.Duration) change {
	n := a.node
	a.good = true
	old := n.State(now, a.balancer.slowStart)
	if !n.breaker.succeed(now, a.began) {
		return change{}
	}
	a.giveUpProbe()
	n.latency.forget()
	n.warmup.restart(a.began) // so that this answer is the first to prove it warm
	return change{old, n.State(now, a.balancer.slowStart), "an answer came"}
}

func (a *Attempt) fail(now time.Duration) change {
	n := a.node
	n.failures.Add(1)
	if a.outdated() {
		return change{}
	}
	old := n.State(now, a.balancer.slowStart)
	if !n.breaker.fail(now, a.began, a.balancer.breaker, jitter(a.balancer.seed, now)) {
		return change{}
	}
	reason := "failures"
	if a.probe {
		reason = "the probing request failed"
		a.giveUpProbe()
	}
	n.ejections.Add(1)
	return change{old, n.State(now, a.balancer.slowStart), reason}
}
