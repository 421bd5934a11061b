package gpupolicy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// RetryBudget bounds how many requests are sent again within any 10 seconds,
// by retries or by hedges, so that they can't multiply an overload. What could
// not connect has cost no node any work, and its retry does not count.
type RetryBudget struct {
	// The share of the requests that may be repeated. Default: 0.2. Negative:
	// no limit. Beyond it retries go on for as long as nearly all of them are
	// answered well.
	Share float64 `json:"share,omitempty"`

	// How many requests may be repeated in any case. Default: 10. As many as a
	// node had in flight may be, too, so that its death loses none of them.
	Min int `json:"min,omitempty"`
}

var (
	retried = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "caddy_gpu_retries_total",
		Help: "Requests sent again after a failure.",
	})
	hedges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_gpu_hedges_total",
		Help: "Requests sent to a second node because the first was silent for too long, by whose answer was used: the second's (won) or not.",
	}, []string{"outcome"})
	exhausted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "caddy_gpu_retry_budget_exhausted_total",
		Help: "Requests that were not sent again because the retry budget was spent.",
	}, []string{"kind"})
)

func init() { // series that are there from the start can be watched from the start
	for _, won := range []bool{true, false} {
		hedges.WithLabelValues(hedgeOutcome(won))
	}
	for _, kind := range []string{"retry", "hedge"} {
		exhausted.WithLabelValues(kind)
	}
}

func hedgeOutcome(won bool) string {
	if won {
		return "won"
	}
	return "lost"
}

// repetitionMetrics are the counters above.
func repetitionMetrics() []prometheus.Collector {
	return []prometheus.Collector{retried, hedges, exhausted}
}

// spentRetryAfter is what clients are told when the budget is spent. It fills up
// from second to second.
const spentRetryAfter = 1

const maxRetryMin = 1_000_000

func (b *RetryBudget) check() error {
	if !(b.Share <= 1) {
		return fmt.Errorf("retry_budget: %g is not a share of the requests, up to 1", b.Share)
	}
	if b.Min < 0 || b.Min > maxRetryMin {
		return fmt.Errorf("retry_budget: %d is not a number of requests up to %d", b.Min, maxRetryMin)
	}
	return nil
}

func (p *Policy) newBudget() *balance.Budget {
	share, floor := balance.DefaultBudgetShare, balance.DefaultBudgetFloor
	if b := p.RetryBudget; b != nil {
		if b.Share != 0 {
			share = b.Share
		}
		if b.Min != 0 {
			floor = b.Min
		}
	}
	return balance.NewBudget(share, floor)
}

// unsent tells whether an attempt failed before anything was sent, which costs
// no node any work.
func unsent(err error) bool {
	_, dialing := errors.AsType[reverseproxy.DialError](err)
	return dialing
}

// kind is what an attempt is to the budget.
type kind uint8

const (
	original kind = iota
	freeRetry
	paidRetry
)

// afford tells what the next attempt is, and takes it from the budget; ok is
// false if it can't be had.
func (p *Policy) afford(now time.Duration, state *request) (k kind, ok bool) {
	switch {
	case state == nil || len(state.visited) == 0:
		return original, true
	case state.unsent:
		return freeRetry, true
	case state.overspent:
		return paidRetry, false
	}
	if state.overspent = !p.budget.Retry(now); state.overspent {
		exhausted.WithLabelValues("retry").Inc()
	}
	return paidRetry, !state.overspent
}

// picked says how the pick for an attempt has ended.
func (p *Policy) picked(now time.Duration, state *request, k kind, chosen *reverseproxy.Upstream) {
	if chosen == nil {
		if k == paidRetry {
			p.budget.Return(now)
		}
		return
	}
	if k != original {
		retried.Inc()
	}
	if state == nil || state.pending == nil {
		return
	}
	state.last = chosen
	state.pending.paid = k == paidRetry
	if k == original {
		p.budget.Request(now, state.pending.Node().InFlight())
	}
}

// refuseRetry is the answer to a request whose retry the budget does not allow.
// It comes as a node's would: reverse_proxy goes on retrying errors, by its own
// rules, until lb_try_duration is over.
func (o *observer) refuseRetry(r *http.Request, state *request) *http.Response {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(PlaceholderBusy, state.busy)
		repl.Set(PlaceholderElsewhere, false)
	}
	body, _ := json.Marshal(map[string]string{"error": "the request failed, and too many are being tried again: try later"})
	return &http.Response{
		Status:     "503 Service Unavailable",
		StatusCode: http.StatusServiceUnavailable,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/json"},
			"Retry-After":  {strconv.Itoa(spentRetryAfter)},
		},
		Body:          io.NopCloser(strings.NewReader(string(body))),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

func (p *Policy) parseRetryBudget(d *caddyfile.Dispenser, args []string) error {
	if p.RetryBudget != nil {
		return d.Err("retry_budget: given twice")
	}
	if len(args) == 1 && args[0] == "off" {
		p.RetryBudget = &RetryBudget{Share: -1}
		return nil
	}
	if len(args) < 1 || len(args) > 2 {
		return d.Err("retry_budget: want '<percent>% [<min>]' or 'off'")
	}
	share, err := parsePercent(args[0])
	if err != nil || !(share > 0 && share <= 1) {
		return d.Errf("retry_budget: '%s' is not a percentage of the requests above 0%% and up to 100%%, nor 'off'", args[0])
	}
	b := &RetryBudget{Share: share}
	if len(args) == 2 {
		if b.Min, err = strconv.Atoi(args[1]); err != nil || b.Min < 1 || b.Min > maxRetryMin {
			return d.Errf("retry_budget: '%s' is not a number of requests, 1 or more", args[1])
		}
	}
	p.RetryBudget = b
	return nil
}

func (p *Policy) parseHedge(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 || args[0] != "on" && args[0] != "off" {
		return d.Err("hedge: want 'on' or 'off'")
	}
	p.NoHedge = args[0] == "off"
	return nil
}
