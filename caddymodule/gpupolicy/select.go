package gpupolicy

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/ndjson"
)

// Select picks an upstream, the one of the request's session if it can, or nil
// when every one is drained or full. With a queue it waits for one to have room.
func (p *Policy) Select(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter) *reverseproxy.Upstream {
	if len(pool) == 0 {
		return nil
	}
	letStream(w, r)
	state := p.request(r)
	state.abandon(clock())
	state.forgetTold(r)
	if state != nil && state.refused {
		return nil // Caddy tries again without an upstream as often as it retries
	}
	kind, ok := p.afford(clock(), state)
	if !ok {
		return state.last // which will not be asked: see observer.RoundTrip
	}
	chosen := p.find(pool, r, w, state)
	p.picked(clock(), state, kind, chosen)
	return chosen
}

// letStream lets the answer to newline-delimited JSON begin before all of the
// request has come. Over HTTP/1.1 Go's server would end the reading of its body
// then, and what is beyond the buffer for repetitions would be cut off.
func letStream(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && ndjson.Is(r.Header) {
		_ = http.NewResponseController(w).EnableFullDuplex() // a writer that can't, can't be helped
	}
}

// find is Select without the budget.
func (p *Policy) find(pool reverseproxy.UpstreamPool, r *http.Request, w http.ResponseWriter, state *request) *reverseproxy.Upstream {
	var began time.Duration // when it began to wait, if it did
	if p.Sticky != nil && state != nil && p.observed {
		began = clock()
		if pinned := p.pickPinned(pool, r, state); pinned != nil {
			return pinned
		}
	}
	if p.queue != nil {
		return p.wait(began, pool, r, w, state)
	}
	chosen, _ := p.pick(pool, r, state)
	return chosen
}

// pick chooses among the upstreams as they are now. If it chooses none, full
// tells whether one may have room later.
func (p *Policy) pick(pool reverseproxy.UpstreamPool, r *http.Request, state *request) (_ *reverseproxy.Upstream, full bool) {
	now := clock()
	candidates := p.scratch.Get().(*[]balance.Candidate)
	defer p.scratch.Put(candidates)
	p.look(now, pool, state, candidates)
	a := new(attempt)
	pick := p.balancer.Pick
	if p.beginsSession(state) {
		pick = p.balancer.PickSession
	}
	chosen, _ := pick(now, *candidates, &a.Attempt)
	if chosen < 0 {
		p.refused(r, *candidates)
		for _, c := range *candidates {
			_, drained := c.Node.Drained()
			full = full || !drained
		}
		return nil, full
	}
	if p.queue != nil {
		a.queue = p.queue.Queue
	}
	return p.reserved(now, pool, r, state, *candidates, chosen, a), false
}

// reserved takes down that a node has been picked and reserved.
func (p *Policy) reserved(now time.Duration, pool reverseproxy.UpstreamPool, r *http.Request, state *request, candidates []balance.Candidate, chosen int, a *attempt) *reverseproxy.Upstream {
	if state == nil || !p.observed {
		// Nobody will say when the request ends; Caddy's own count, which
		// begins a moment later, must do.
		a.End(now)
		return pool[chosen]
	}
	a.member = p.members.get(now, chosen, pool[chosen])
	a.outlook = p.outlook(now, state, candidates, chosen)
	state.pool = pool
	state.reserve(a)
	return pool[chosen]
}

// look makes candidates of the upstreams as they are now.
func (p *Policy) look(now time.Duration, pool reverseproxy.UpstreamPool, state *request, candidates *[]balance.Candidate) {
	*candidates = (*candidates)[:0]
	for i, u := range pool {
		m := p.members.get(now, i, u)
		down := p.isDown(now, m, u)
		warmSince := time.Duration(m.warmSince.Load())
		if warmSince != 0 && m.node.Warmth(now, warmSince, p.slowStart()) == 1 {
			p.warmed(now, m, warmSince)
		}
		*candidates = append(*candidates, balance.Candidate{
			Node:      m.node,
			Weight:    m.weight,
			Tier:      m.tier,
			Down:      down,
			Full:      u.Full(),
			Limit:     p.limit(m),
			InFlight:  u.NumRequests(),
			WarmSince: warmSince,
			Tries:     state.tries(m.node),
			Avoid:     m.avoid,
		})
	}
}

// note is for changes that only the policy knows of.
func (p *Policy) note(c balance.Change) {
	c.Node.Note(c)
	p.changed(c)
}

// warmed notes that the slow start after a recovery is over. A node that was
// ejected as well is in another one that ends by the same answers, of which the
// balancer tells.
func (p *Policy) warmed(now time.Duration, m *member, since time.Duration) {
	if !m.warmSince.CompareAndSwap(int64(since), 0) {
		return
	}
	if _, drained := m.node.Drained(); !drained && !m.node.Sparing() {
		p.note(balance.Change{Node: m.node, Old: balance.SlowStart, New: balance.Up, Reason: "its slow start is over", At: now})
	}
}
