package gpupolicy

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// pickPinned picks the node that a request wishes to go to, if it does and
// nothing speaks against it. With a queue it may wait for that node to have room.
func (p *Policy) pickPinned(pool reverseproxy.UpstreamPool, r *http.Request, state *request) *reverseproxy.Upstream {
	w := &state.wish
	if !w.read {
		*w = p.Sticky.read(r)
	}
	if !w.any() {
		return nil
	}
	now := clock()
	members := make([]*member, len(pool))
	for i, u := range pool {
		members[i] = p.members.get(now, i, u)
	}
	affinity := make([]float64, len(pool))
	first := w.rank(members, affinity)
	if first == nil {
		countPin(balance.PinNone)
		return nil
	}
	var chosen *reverseproxy.Upstream
	pin := balance.PinNone
	try := func() bool {
		p.withAffinity(pool, state, affinity, func(now time.Duration, candidates []balance.Candidate) {
			chosen, pin = p.reservePinned(now, pool, r, state, first, candidates)
		})
		return pin != balance.PinWaits
	}
	line := first.line
	if line != nil && line.Len() > 0 {
		pin = p.prospect(pool, state, first, affinity)
	}
	switch {
	case line == nil:
		try()
	case pin == balance.PinFull || pin == balance.PinOverloaded: // those before it are too many
	default:
		_ = line.Wait(r.Context(), p.urgency(r, state), try) // whoever is refused asks the others
		if chosen != nil {
			queueWait.Observe((clock() - now).Seconds())
		}
	}
	if pin == balance.PinWaits {
		pin = balance.PinFull
	}
	countPin(pin)
	return chosen
}

// beginsSession tells whether the request is to be given a cookie and has none.
func (p *Policy) beginsSession(state *request) bool {
	return p.Sticky != nil && p.Sticky.Cookie != nil && state != nil && !state.wish.header && state.wish.home == nil && len(state.visited) == 0
}

// withAffinity calls f with the candidates as they are now.
func (p *Policy) withAffinity(pool reverseproxy.UpstreamPool, state *request, affinity []float64, f func(time.Duration, []balance.Candidate)) {
	now := clock()
	candidates := p.scratch.Get().(*[]balance.Candidate)
	defer p.scratch.Put(candidates)
	p.look(now, pool, state, candidates)
	for i := range *candidates {
		(*candidates)[i].Affinity = affinity[i]
	}
	f(now, *candidates)
}

// prospect is what would become of a request that joins those who wait for its
// node already.
func (p *Policy) prospect(pool reverseproxy.UpstreamPool, state *request, first *member, affinity []float64) (pin balance.Pin) {
	p.withAffinity(pool, state, affinity, func(now time.Duration, candidates []balance.Candidate) {
		for i := range candidates {
			if c := &candidates[i]; c.Node == first.node {
				c.Backlog = first.line.Backlog()
			}
		}
		pin = p.balancer.Pin(now, candidates)
	})
	return pin
}

func (p *Policy) reservePinned(now time.Duration, pool reverseproxy.UpstreamPool, r *http.Request, state *request, first *member, candidates []balance.Candidate) (*reverseproxy.Upstream, balance.Pin) {
	a := new(attempt)
	chosen, pin := p.balancer.PickPinned(now, candidates, &a.Attempt)
	if chosen < 0 {
		return nil, pin
	}
	if pin == balance.PinKept && first.line != nil {
		a.queue = first.line.Queue
	} else if p.queue != nil {
		a.queue = p.queue.Queue
	}
	return p.reserved(now, pool, r, state, candidates, chosen, a), pin
}

// openLine gives the member a line of its own for requests pinned to it. In the
// queue for all nodes they would hold up those who take any, or give up a pin
// that is worth some patience.
func (p *Policy) openLine(m *member) {
	if p.Sticky == nil || p.queue == nil {
		return
	}
	m.line = queues.acquire("pinned to "+m.dial+" of "+p.queue.key, balance.QueueOptions{
		Capacity: p.Queue.Capacity,
		Patience: time.Duration(p.Queue.Patience) / 2, // the rest is for the other nodes
	})
	m.line.pinned = true
	m.node.Audience().Join(m.line.Queue)
}

func (m *member) closeLine() {
	if m.line != nil {
		m.node.Audience().Leave(m.line.Queue)
		queues.release(m.line)
	}
}
