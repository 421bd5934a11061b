package gpupolicy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/caddymodule/healthcheck"
)

const (
	// Dynamic upstreams are remembered for as long as they keep being named,
	// and forgetAfter longer.
	forgetAfter = 10 * time.Minute
	sweepEvery  = time.Minute
	// maxDynamic bounds what a source that makes up addresses can cost.
	maxDynamic = 4096
)

// member is a node as one handler sees it.
type member struct {
	dial   string
	node   *balance.Node
	weight float64
	tier   int

	avoid   []*balance.Avoidance
	digests *digests
	queue   *balance.Queue
	line    *sharedQueue // of those pinned to it, nil without a queue
	token   string       // of cookies that pin to it
	seed    uint64       // of headers that do
	sources []*source
	health  *healthcheck.Watch // nil without checks of our own

	avoided   atomic.Bool  // what avoid said last
	down      atomic.Bool  // what health checks said last
	unhealthy atomic.Bool  // of them, Caddy's
	warmSince atomic.Int64 // when they last said up again
	seen      atomic.Int64 // when it was last a candidate; dynamic only
}

// members are the nodes of one handler: the static upstreams by position, all
// others by their dial address.
type members struct {
	rules  rules
	attend func(*member) // begins to read a member's telemetry
	static []*member

	mu       sync.RWMutex
	dynamic  map[string]*member
	swept    time.Duration
	released bool
}

func (ms *members) init(r rules, static reverseproxy.UpstreamPool, now time.Duration, attend func(*member)) {
	ms.rules, ms.attend = r, attend
	ms.dynamic = make(map[string]*member)
	var fresh []*balance.Node
	serving := false
	for _, u := range static {
		n, created := nodes.Acquire(now, u.Dial)
		if created {
			fresh = append(fresh, n)
		} else if _, known := n.Latency(); known {
			serving = true
		}
		ms.static = append(ms.static, ms.member(u.Dial, n))
	}
	for _, m := range ms.static {
		attend(m)
	}
	// Nodes that start together start warm; one that a reload adds to nodes
	// already at work is broken in.
	if serving {
		for _, n := range fresh {
			n.Join(now)
		}
	}
}

func (ms *members) member(dial string, n *balance.Node) *member {
	m := &member{dial: dial, node: n, weight: ms.rules.weight(dial), tier: ms.rules.tier(dial)}
	ms.rules.sticky.identify(m)
	return m
}

// get returns the member for the i-th upstream of a pool.
func (ms *members) get(now time.Duration, i int, u *reverseproxy.Upstream) *member {
	if i < len(ms.static) && ms.static[i].dial == u.Dial {
		return ms.static[i]
	}
	ms.mu.RLock()
	m := ms.dynamic[u.Dial]
	ms.mu.RUnlock()
	if m == nil {
		m = ms.discover(now, u.Dial)
	}
	m.seen.Store(int64(now))
	return m
}

func (ms *members) discover(now time.Duration, dial string) *member {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m := ms.dynamic[dial]; m != nil {
		return m
	}
	if !ms.released {
		ms.sweep(now)
	}
	if len(ms.dynamic) >= maxDynamic {
		m := ms.member(dial, balance.NewNode(dial)) // served, not remembered
		nodes.With(now, dial, func(n *balance.Node) { m.node = n })
		return m
	}
	n, created := nodes.Acquire(now, dial)
	if ms.released { // the last requests of a configuration that was replaced
		nodes.Release(now, n, forgetAfter)
		return ms.member(dial, n)
	}
	if created && ms.serving() {
		n.Join(now)
	}
	m := ms.member(dial, n)
	ms.attend(m)
	m.seen.Store(int64(now))
	ms.dynamic[dial] = m
	return m
}

// serving reports whether any of the nodes found so far has answered.
func (ms *members) serving() bool {
	for _, m := range ms.dynamic {
		if _, known := m.node.Latency(); known {
			return true
		}
	}
	return false
}

// sweep forgets dynamic upstreams that are named no more.
func (ms *members) sweep(now time.Duration) {
	if now-ms.swept < sweepEvery && len(ms.dynamic) < maxDynamic {
		return
	}
	ms.swept = now
	for dial, m := range ms.dynamic {
		if now-time.Duration(m.seen.Load()) > forgetAfter && m.node.InFlight() == 0 {
			delete(ms.dynamic, dial)
			m.part()
			nodes.Release(now, m.node, 0)
		}
	}
}

// release gives all nodes back. Dynamic ones stay a while without a user: a
// configuration that replaces this one meets them only with its first request.
// Requests of the old configuration may still be under way, and go on with the
// nodes and the verdicts they know.
func (ms *members) release(now time.Duration) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.static {
		m.part()
		nodes.Release(now, m.node, 0)
	}
	for _, m := range ms.dynamic {
		m.part()
		nodes.Release(now, m.node, forgetAfter)
	}
	ms.released = true
}

// all returns the members there are now.
func (ms *members) all() []*member {
	ms.mu.RLock()
	defer ms.mu.RUnlock()
	all := append([]*member(nil), ms.static...)
	for _, m := range ms.dynamic {
		all = append(all, m)
	}
	return all
}
