package gpupolicy

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// request is what one request remembers over its attempts. It travels in the
// request's variables; Select and RoundTrip are called by one goroutine.
type request struct {
	of      *http.Request // Caddy's clone: the same one for all attempts
	visited []visit
	few     [4]visit // backs visited, so that most requests allocate once
	pending *attempt // reserved, not yet seen by the observer
	refused bool     // by the queue
	hedges  int      // of visited, those that were no retries
	wish    wish     // where its session is

	// What a hedge starts from: what the request was before reverse_proxy
	// adapted it to a node, and the upstreams there were.
	header http.Header
	host   string
	pool   reverseproxy.UpstreamPool

	last      *reverseproxy.Upstream // that was picked
	busy      bool                   // what answered last was busy
	unsent    bool                   // the last attempt did not get as far as a node
	overspent bool                   // the budget did not allow the next retry
	spent     atomic.Bool            // some of a body that can't be sent again was sent
}

type visit struct {
	node  *balance.Node
	times int
}

// request returns r's memory, nil if r has no variables to keep it in.
func (p *Policy) request(r *http.Request) *request {
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	if state, ok := vars[p.varKey].(*request); ok && state.of == r {
		return state
	}
	state := &request{of: r, header: r.Header, host: r.Host}
	state.visited = state.few[:0]
	vars[p.varKey] = state
	return state
}

func (s *request) tries(n *balance.Node) int {
	if s == nil {
		return 0
	}
	for _, v := range s.visited {
		if v.node == n {
			return v.times
		}
	}
	return 0
}

func (s *request) visit(n *balance.Node) {
	for i := range s.visited {
		if s.visited[i].node == n {
			s.visited[i].times++
			return
		}
	}
	s.visited = append(s.visited, visit{n, 1})
}

// reserve remembers an attempt until the observer takes it.
//
// Whatever becomes of the request, the reservation ends with it: between the
// pick and the round trip Caddy may fail, and after it any handler may panic
// without closing the response body.
func (s *request) reserve(a *attempt) {
	s.accompany(a)
	s.pending, s.busy, s.unsent = a, false, false
}

// accompany makes the attempt one of the request's.
func (s *request) accompany(a *attempt) {
	s.visit(a.Node())
	a.request = s
	a.disarm = context.AfterFunc(s.of.Context(), func() { a.Attempt.EndFor(clock(), a.queue) })
}

// abandon ends a reservation that never became a round trip.
func (s *request) abandon(now time.Duration) {
	if s != nil && s.pending != nil {
		s.pending.end(now)
		s.pending = nil
	}
}

// take hands the reservation over to the observer.
func (s *request) take() *attempt {
	a := s.pending
	s.pending = nil
	return a
}

// attempt is a reservation and the way to end it early.
type attempt struct {
	balance.Attempt
	member  *member
	queue   *balance.Queue // that it waited in, or could have
	request *request
	outlook outlook
	paid    bool // it is a retry that the budget has paid for
	disarm  func() bool
	over    atomic.Bool
}

// end gives the reservation back.
func (a *attempt) end(now time.Duration) {
	if a.over.CompareAndSwap(false, true) {
		a.Attempt.EndFor(now, a.queue)
		a.disarm()
	}
}

// lose gives the reservation back because another node has answered.
func (a *attempt) lose(now time.Duration) {
	if a.over.CompareAndSwap(false, true) {
		a.Attempt.Lose(now, a.queue)
		a.disarm()
	}
}
