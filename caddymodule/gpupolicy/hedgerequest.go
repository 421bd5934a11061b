package gpupolicy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// repeat makes the request of the hedge, as reverse_proxy would for a retry. It
// starts from what the request was before the first attempt, and has variables
// and placeholders of its own, for the first is still under way.
func (c *race) repeat(ctx context.Context) (*http.Request, *caddy.Replacer) {
	repl := caddy.NewEmptyReplacer()
	if of, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(of.Get)
	}
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	if vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
	}
	r := c.state.of.WithContext(ctx)
	r.Header, r.Host = c.state.header.Clone(), c.state.host
	target := c.url
	target.Scheme = "" // the transport's to choose
	r.URL = &target
	if c.body != nil {
		r.Body = io.NopCloser(c.body)
	}
	return r, repl
}

// allows tells whether reverse_proxy would repeat the request if the connection
// broke now, by its own rules: see tryAgain there.
func (h *hedger) allows(r *http.Request, repl *caddy.Replacer) bool {
	match := h.handler.LoadBalancing.RetryMatch
	if match == nil {
		return r.Method == http.MethodGet
	}
	repl.Set("http.reverse_proxy.is_transport_error", true)
	defer repl.Delete("http.reverse_proxy.is_transport_error")
	matches, err := match.AnyMatchWithError(r)
	return err == nil && matches
}

// pickHedge reserves another node for the request, if one has room and the
// budget is not spent.
func (p *Policy) pickHedge(state *request) (_ *reverseproxy.Upstream, _ *attempt, spent bool) {
	now := clock()
	if !p.budget.Hedge(now) {
		exhausted.WithLabelValues("hedge").Inc()
		return nil, nil, true
	}
	candidates := p.scratch.Get().(*[]balance.Candidate)
	defer p.scratch.Put(candidates)
	p.look(now, state.pool, state, candidates)
	for i, u := range state.pool { // reverse_proxy does not count hedges
		c := &(*candidates)[i]
		c.Full = c.Full || u.MaxRequests > 0 && c.Node.InFlight() >= u.MaxRequests
	}
	a := new(attempt)
	chosen := p.balancer.PickOther(now, *candidates, &a.Attempt)
	if chosen < 0 {
		p.budget.Return(now)
		return nil, nil, false
	}
	a.member = p.members.get(now, chosen, state.pool[chosen])
	if p.queue != nil {
		a.queue = p.queue.Queue
	}
	a.outlook = p.outlook(now, state, *candidates, chosen)
	state.hedges++
	state.accompany(a)
	return state.pool[chosen], a, false
}

// direct sends the request to an upstream: see proxyLoopIteration and
// directRequest in reverse_proxy.
func direct(r *http.Request, repl *caddy.Replacer, u *reverseproxy.Upstream) (info dialInfo, err error) {
	addr, err := caddy.ParseNetworkAddress(repl.ReplaceAll(u.Dial, ""))
	if err != nil {
		return info, err
	}
	if n := addr.PortRangeSize(); n != 1 {
		return info, fmt.Errorf("upstream %s: an address of %d sockets", u.Dial, n)
	}
	info = dialInfo{reverseproxy.DialInfo{
		Upstream: u,
		Network:  addr.Network,
		Address:  addr.JoinHostPort(0),
		Host:     addr.Host,
		Port:     fmt.Sprint(addr.StartPort),
	}}
	info.set(repl)
	*r = *r.WithContext(context.WithValue(r.Context(), dialInfoKey, info.DialInfo))
	r.URL.Host = info.Address
	return info, nil
}

// prepare applies the header operations for the node.
func (h *hedger) prepare(r *http.Request, transport *headers.HeaderOps) {
	if transport != nil {
		transport.ApplyToRequest(r)
	}
	if h.handler.Headers != nil && h.handler.Headers.Request != nil {
		h.handler.Headers.Request.ApplyToRequest(r)
	}
}

// dialInfo is whom a request goes to.
type dialInfo struct{ reverseproxy.DialInfo }

// set fills in what reverse_proxy's placeholders tell of an upstream.
func (i dialInfo) set(repl *caddy.Replacer) {
	const prefix = "http.reverse_proxy.upstream."
	repl.Set(prefix+"address", i.String())
	repl.Set(prefix+"hostport", i.Address)
	repl.Set(prefix+"host", i.Host)
	repl.Set(prefix+"port", i.Port)
	repl.Set(prefix+"requests", i.Upstream.NumRequests())
	repl.Set(prefix+"max_requests", i.Upstream.MaxRequests)
	repl.Set(prefix+"fails", i.Upstream.Fails())
}

// tell names the upstream in the request's placeholders, for header operations
// on the response and for logs.
func (i dialInfo) tell(r *http.Request) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		i.set(repl)
	}
}
