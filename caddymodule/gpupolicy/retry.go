package gpupolicy

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// What a retry matcher may ask after an answer of 429 or 5xx. reverse_proxy
// throws an answer away when it matches, even if no retry is left: the client
// then gets a bare status instead of the node's own words and Retry-After. So
// a matcher must know whether there is anywhere else to go.
const (
	// PlaceholderElsewhere is true if another node should get the request
	// instead: one it was not yet tried at, and a healthy one if this node is
	// merely busy, and if a retry is left.
	PlaceholderElsewhere = "http.reverse_proxy.gpu.elsewhere"
	// PlaceholderBusy is true if the node that answered is busy (429, or 503
	// with Retry-After), or if no node was picked because they are full.
	PlaceholderBusy = "http.reverse_proxy.gpu.busy"
)

// outlook is where a request could go instead of the node picked.
type outlook struct {
	any     bool // to a node not tried yet
	healthy bool // to one that is healthy, too
}

// retries is how often the handler retries.
type retries struct {
	asked   bool // a matcher wants to know of the outlook
	limit   int  // 0: none, if timed is false
	limited bool
	timed   bool
}

func retriesOf(h *reverseproxy.Handler) retries {
	lb := h.LoadBalancing
	if lb == nil {
		return retries{}
	}
	r := retries{limit: lb.Retries, limited: lb.Retries > 0, timed: lb.TryDuration > 0}
	for _, set := range lb.RetryMatchRaw {
		for _, m := range set {
			r.asked = r.asked || strings.Contains(string(m), "http.reverse_proxy.gpu.")
		}
	}
	return r
}

// left reports whether a request that was tried so many times may be retried.
func (r retries) left(tries int) bool {
	if r.limited {
		return tries <= r.limit
	}
	return r.timed
}

// outlook looks for other nodes than the one chosen. state does not yet count
// that one. With a queue, a retry waits for those that are full.
func (p *Policy) outlook(now time.Duration, state *request, candidates []balance.Candidate, chosen int) (o outlook) {
	if !p.retries.asked || state == nil || !p.retries.left(state.attempts()+1) {
		return o
	}
	for i := range candidates {
		c := &candidates[i]
		if _, drained := c.Node.Drained(); i != chosen && c.Tries == 0 && !drained && (p.queue != nil || !c.NoRoom()) {
			o.any = true
			o.healthy = o.healthy || c.Healthy(now)
		}
	}
	return o
}

// tell answers what the retry matcher may ask of an answer.
func (p *Policy) tell(r *http.Request, a *attempt, v balance.Verdict) {
	a.request.busy = v == balance.Busy
	if !p.retries.asked || v != balance.Busy && v != balance.Failed {
		return
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		busy := v == balance.Busy
		repl.Set(PlaceholderBusy, busy)
		elsewhere := a.outlook.healthy || a.outlook.any && !busy
		repl.Set(PlaceholderElsewhere, elsewhere && p.budget.Left(clock()))
	}
}

// refused says why no node was picked: whether one is alive, but full.
func (p *Policy) refused(r *http.Request, candidates []balance.Candidate) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		full := false
		for i := range candidates {
			c := &candidates[i]
			full = full || c.NoRoom() && !c.Down
		}
		repl.Set(PlaceholderBusy, full)
	}
}

// tellBusy says whether a request was turned away because the nodes are busy.
func tellBusy(r *http.Request, busy bool) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(PlaceholderBusy, busy)
	}
}

// forgetTold takes back what was told of the attempt before.
func (s *request) forgetTold(r *http.Request) {
	if s == nil || len(s.visited) == 0 {
		return
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Delete(PlaceholderBusy)
		repl.Delete(PlaceholderElsewhere)
	}
}

// attempts counts the tries so far, as reverse_proxy does, which does not know
// of hedges.
func (s *request) attempts() int {
	n := -s.hedges
	for _, v := range s.visited {
		n += v.times
	}
	return n
}
