package balance

import (
	"sync"
	"sync/atomic"
	"time"
)

// Node is what the gateway knows of one upstream address. It is safe for
// concurrent use and meant to be shared by every pool that names the address:
// see Pool.
type Node struct {
	// Read by picks without the lock, and therefore close together.
	inFlight atomic.Int64  // reserved by a pick and not yet ended
	version  atomic.Uint64 // counts what is heard of the node: see view
	latency  latency
	knee     knee
	warmup   warmup
	breaker  breaker
	orders   orders
	told     told
	limit    atomic.Pointer[Limit] // nil until somebody asks for it

	addr      string
	met       time.Duration
	audience  Audience
	picks     [reasons]atomic.Uint64
	ejections atomic.Uint64
	failures  atomic.Uint64
	changed   atomic.Pointer[Change] // the last one

	mu sync.Mutex // guards writes to what is above, and what follows
	// Attempts without an answer, by the time since when they wait.
	first, last *Attempt
	history     history
	recent      recent
}

// NewNode returns a node of which nothing is known yet. Most callers want
// Pool.Acquire.
func NewNode(addr string) *Node { return &Node{addr: addr} }

// Addr returns the address the node was made with.
func (n *Node) Addr() string { return n.addr }

// Met returns when a pool made the node, 0 if none did.
func (n *Node) Met() time.Duration { return n.met }

// InFlight returns the number of requests reserved for the node or under way.
func (n *Node) InFlight() int { return int(n.inFlight.Load()) }

// Latency returns the moving average of the time to first byte, without what
// requests beyond the knee or others' work on the GPU add to it; ok is false
// while nothing is known.
func (n *Node) Latency() (average time.Duration, ok bool) {
	known := n.latency.known()
	return time.Duration(known * float64(time.Second)), known != 0
}

// Knee returns up to how many requests in flight the node has shown to serve
// without slowing down; ok is false while nothing is known.
func (n *Node) Knee() (requests float64, ok bool) { return n.knee.value() }

// ForeignShare returns the share of the GPU's time that others than this
// gateway take, as far as the node's reports tell, 0 to 1.
func (n *Node) ForeignShare() float64 { return load(&n.told.foreign) }

// Stale returns whether the node's reports no longer count, or there are none.
func (n *Node) Stale(now time.Duration) bool { return n.told.trust(now) == 0 }

// Limit returns what has been learned of how many requests the node can use at
// a time, and begins to learn it with the first call. clock is what to add to
// the times that the node hears of to get the time since the Unix epoch.
func (n *Node) Limit(clock time.Duration) *Limit {
	if l := n.limit.Load(); l != nil {
		return l
	}
	n.limit.CompareAndSwap(nil, NewLimit(clock))
	return n.limit.Load()
}

// Learned returns the present limit if it is being learned.
func (n *Node) Learned() (limit int, ok bool) {
	if l := n.limit.Load(); l != nil {
		return l.Now(), true
	}
	return 0, false
}

// Audience returns the queues whose requests may go to the node.
func (n *Node) Audience() *Audience { return &n.audience }

// Picks returns how often the node was picked for the reason.
func (n *Node) Picks(r Reason) uint64 { return n.picks[r].Load() }

// Ejections returns how often the node was ejected.
func (n *Node) Ejections() uint64 { return n.ejections.Load() }

// Failures returns how many requests the node failed: errors and answers that
// it was at fault for, and answers that it broke off.
func (n *Node) Failures() uint64 { return n.failures.Load() }

// LastChange returns the newest change of state that was reported of the node;
// ok is false if none was.
func (n *Node) LastChange() (c Change, ok bool) {
	if last := n.changed.Load(); last != nil {
		return *last, true
	}
	return Change{}, false
}

// Note remembers a change of state as the node's last. Balancers note what
// they report; callers do for changes that only they know of.
func (n *Node) Note(c Change) { n.changed.Store(&c) }

// Join starts the node's slow start, for a node that enters a pool that is
// already serving.
func (n *Node) Join(now time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warmup.restart(now)
	n.heard()
}

// Recover says that the node recovered in the eyes of a caller, of its health
// checks, who tells from when it is to be spared by Candidate.WarmSince: it has
// to prove itself anew, its failures no longer make it look slow, and if it is
// ejected the next request probes it.
func (n *Node) Recover(now time.Duration) {
	defer n.audience.Wake()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.warmup.proven(now)
	n.latency.forget()
	n.latency.answered.Store(int64(now)) // the health check
	n.breaker.shorten(now)
	n.heard()
}

// Warmth returns the share of its requests that the node gets if it is spared
// since a time, 0 for never, and its own slow start apart.
func (n *Node) Warmth(now, since, slowStart time.Duration) float64 {
	return n.warmup.warmth(now, since, slowStart)
}

// Sparing tells whether the node is in a slow start of its own, which it began
// when it joined or when its ejection ended. Its end is reported by a balancer.
func (n *Node) Sparing() bool { return n.warmup.since.Load() != 0 }

// heard makes views of the node out of date.
func (n *Node) heard() { n.version.Add(1) }

// State tells how the node stands at a time, under the given slow start. An
// order to drain outweighs all else.
func (n *Node) State(now, slowStart time.Duration) State {
	if n.drained() {
		return n.drainState()
	}
	switch n.breaker.circuit(now) {
	case open:
		return Ejected
	case halfOpen:
		if n.breaker.probing.Load() {
			return Probing
		}
		return Ejected
	case closed:
	}
	if n.warmup.warmth(now, time.Duration(n.warmup.since.Load()), slowStart) < 1 {
		return SlowStart
	}
	return Up
}

// publish tells picks how long the longest unanswered attempt has waited.
// Called with the lock held after every change of the list.
func (n *Node) publish() {
	var oldest time.Duration
	if n.first != nil {
		oldest = n.first.waiting
	}
	n.latency.oldest.Store(int64(oldest))
}

// insert puts a into the list, which is ordered by the time since when
// attempts wait. Nearly always that is its end.
func (n *Node) insert(a *Attempt) {
	after := n.last
	for after != nil && after.waiting > a.waiting {
		after = after.prev
	}
	a.prev = after
	if after == nil {
		a.next, n.first = n.first, a
	} else {
		a.next, after.next = after.next, a
	}
	if a.next == nil {
		n.last = a
	} else {
		a.next.prev = a
	}
	n.publish()
}

func (n *Node) remove(a *Attempt) {
	if a.prev == nil {
		n.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		n.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.prev, a.next = nil, nil
	n.publish()
}
