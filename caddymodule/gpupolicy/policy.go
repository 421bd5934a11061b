// Package gpupolicy is the load-balancing policy `lb_policy gpu` of
// reverse_proxy. What it decides, and why, is in package balance; here are its
// configuration, what it observes of each request, and its metrics and events.
package gpupolicy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

func init() {
	caddy.RegisterModule(new(Policy))
}

// nodes is what is known of every upstream of this process. It outlives
// configurations, so that a reload forgets nothing, and is shared by all
// handlers, so that one learns from the other's requests.
var nodes balance.Pool

// epoch is the zero of the package's clock. It lies in the past because
// package balance takes zero for "never".
var epoch = time.Now().Add(-time.Hour)

func clock() time.Duration { return time.Since(epoch) }

// Policy sends each request to the node that is expected to answer it first:
// by its time to first byte, by how that has been seen to grow with the
// requests the node has in flight, and, with telemetry, by what others do on
// its GPU. Nodes that keep failing are ejected and come back
// by themselves; nodes of a less preferred tier take what the others can't
// carry; when every node is lost, one is tried anyway, unless an operator
// drained it. It works alone: it needs no other directive, and observes each
// attempt itself.
//
// What counts against a node: connection errors, timeouts, answers broken off
// midway, and the statuses 500 to 599 except 501 and 505, which a request can
// be at fault for. A 429, and a 503 with Retry-After, mean busy: the node
// counts as slow, never as failed. A client that leaves says nothing, except
// that the node had not answered by then.
//
// A request that is retried avoids the nodes it was already tried at while
// another is healthy. Whether it is retried is up to lb_retries,
// lb_try_duration and lb_retry_match.
type Policy struct {
	// How nodes tell of their GPUs and queues. Without telemetry, and while
	// it can't be read, nodes are judged by their answers alone.
	Telemetry []Telemetry `json:"telemetry,omitempty"`

	// How often nodes are asked. A report counts in full until it is three
	// intervals old, and not at all from ten on. Default: 1s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// The GPU utilisation, 0 to 1, from which load moves away from a node if
	// others than this gateway cause it. Default: 0.75. 1 or more: never.
	ShedAt float64 `json:"shed_at,omitempty"`

	// Limits from which a node gets nothing while others can serve, by signal:
	// gpu_memory and kv_cache (shares, 0 to 1), queue (requests), temperature
	// (°C). A node is avoided after two reports at or above a limit, for at
	// least 10 seconds, until three are 15 % below. Load alone never takes
	// more than half of a tier's weight out. Default: none.
	AvoidWhen map[string]float64 `json:"avoid_when,omitempty"`

	// The relative capacities of upstreams, by address as in the upstream's
	// dial (default 1). A weight stands in for a node's capacity until that
	// has been learned from its answers, shares out requests that several
	// nodes would answer equally soon, and says how much of its tier a node is.
	Weights map[string]float64 `json:"weights,omitempty"`

	// The tiers of upstreams, by address or CIDR, 1 to 16 (default 1, the
	// most preferred). An address goes before a CIDR, a longer prefix before
	// a shorter one. A CIDR matches upstreams given by IP address.
	Tiers map[string]int `json:"tiers,omitempty"`

	// How many requests a node gets at a time: a number, or -1 to learn it, for
	// each node, from how its throughput changes with the requests in flight.
	// A node that has as many is full. Default: no limit without a queue, -1
	// with one.
	MaxInFlight int `json:"max_in_flight,omitempty"`

	// Where requests wait while every node is full, or while a full one would
	// have them answered sooner than one with room. Default: nowhere; they are
	// answered 503 then.
	Queue *QueueConfig `json:"queue,omitempty"`

	// Bounds how many requests are sent again. Default: a fifth of them, and
	// 10 in 10 seconds in any case.
	RetryBudget *RetryBudget `json:"retry_budget,omitempty"`

	// Don't send a request to a second node when the first leaves it unanswered
	// for longer than its answers have ever taken of late. Default: do, where
	// reverse_proxy would retry the request if the connection broke, its body
	// is buffered, and its method is GET, HEAD, OPTIONS or POST.
	NoHedge bool `json:"no_hedge,omitempty"`

	// Keeps the requests of a client at one node. Default: each goes to the
	// best.
	Sticky *Sticky `json:"sticky,omitempty"`

	// How long a node that recovers, or that joins nodes already serving, is
	// spared: its share grows from a tenth to the whole. Default: 30s.
	// Negative: off.
	SlowStart caddy.Duration `json:"slow_start,omitempty"`

	// How many failures in a row eject a node (default 5). It is also
	// ejected when fewer than half of 20 or more requests within 10 seconds
	// succeed. The first ejection lasts 5 seconds, each further one twice
	// as long, up to 5 minutes. Negative: never eject.
	EjectFailures int `json:"eject_failures,omitempty"`

	// Asks nodes whether they can serve. Default: nodes are judged by their
	// answers to requests, and by reverse_proxy's health checks where it has any.
	Health *Health `json:"health,omitempty"`

	// How much a tier is over-provisioned: with 1.4 (the default), it spills
	// to the next when less than 1/1.4 of its weight is healthy.
	Spill float64 `json:"spill,omitempty"`

	logger    *zap.Logger
	balancer  *balance.Balancer
	members   members
	observed  bool                        // an observer sees the attempts
	orca      bool                        // nodes tell by their responses
	transport *reverseproxy.HTTPTransport // made for the handler, if it had none

	roundTripper http.RoundTripper // the handler's, unobserved
	retries      retries           // of the handler
	budget       *balance.Budget
	hedger       hedger
	varKey       string    // of a request's memory in its variables
	scratch      sync.Pool // of *[]balance.Candidate
	notifier     notifier
	digests      digests
	queue        *sharedQueue // nil without one
}

// CaddyModule returns the Caddy module information.
func (*Policy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.reverse_proxy.selection_policies.gpu",
		New: func() caddy.Module { return new(Policy) },
	}
}

// Provision sets up the policy and puts its observer around the transport of
// the reverse_proxy it belongs to.
func (p *Policy) Provision(ctx caddy.Context) error {
	p.logger = ctx.Logger()
	p.varKey = fmt.Sprintf("gpu_policy.%p", p)
	p.scratch.New = func() any { return new([]balance.Candidate) }

	if err := p.notifier.provision(ctx, p.logger); err != nil {
		return err
	}

	rules, err := p.rules()
	if err != nil {
		return err
	}
	if err := p.provisionTelemetry(caddy.NewReplacer()); err != nil {
		return err
	}
	if p.Health != nil {
		if err := p.Health.provision(caddy.NewReplacer()); err != nil {
			return err
		}
	}
	p.budget = p.newBudget()
	if p.Sticky != nil {
		if err := p.Sticky.provision(caddy.NewReplacer()); err != nil {
			return err
		}
	}
	handler := parent(ctx)
	var backlog func() time.Duration
	if p.openQueue(handler); p.queue != nil {
		backlog = p.backlog
	}
	p.balancer = balance.New(balance.Options{
		ShedAt:    p.ShedAt,
		Backlog:   backlog,
		SlowStart: p.slowStart(),
		Spill:     p.Spill,
		Breaker:   balance.Breaker{Failures: p.failures()},
		Seed:      rand.Uint64(),
		OnChange:  p.changed,
	})

	var static reverseproxy.UpstreamPool
	if handler != nil {
		static = handler.Upstreams
		p.retries = retriesOf(handler)
		if err := p.checkAddresses(rules, handler); err != nil {
			return err
		}
		if err := observe(ctx, handler, p); err != nil {
			return err
		}
		p.hedger = p.hedgerOf(handler)
	}
	p.members.init(rules, static, clock(), p.attend)
	p.warnOfDrained()
	p.warnOfTelemetry()
	p.warnOfTiers()
	p.warnOfWeights()

	if handler == nil {
		p.logger.Warn("no reverse_proxy handler found around the policy, so it can't observe what becomes of requests: nodes are chosen by requests in flight alone")
	}
	p.observed = handler != nil
	return register(ctx, p)
}

// Validate rejects settings out of range.
func (p *Policy) Validate() error {
	if p.ShedAt != 0 && !(p.ShedAt > 0 && p.ShedAt <= 1000) {
		return fmt.Errorf("shed_at %g: want a utilisation above 0, such as 0.75, or 1 for never", p.ShedAt)
	}
	if d := p.interval(); d < minInterval || d > maxInterval {
		return fmt.Errorf("interval %v: want %v to %v", d, minInterval, maxInterval)
	}
	if err := p.checkAvoid(); err != nil {
		return err
	}
	if p.MaxInFlight < AutoMaxInFlight || p.MaxInFlight > maxQueue {
		return fmt.Errorf("max_in_flight %d: want a number of requests up to %d, or -1 to learn it", p.MaxInFlight, maxQueue)
	}
	if p.Queue != nil {
		if err := p.Queue.check(); err != nil {
			return err
		}
	}
	if p.RetryBudget != nil {
		if err := p.RetryBudget.check(); err != nil {
			return err
		}
	}
	if p.Sticky != nil {
		if err := p.Sticky.check(); err != nil {
			return err
		}
	}
	if p.Spill != 0 && !(p.Spill >= 1 && p.Spill <= 10) {
		return fmt.Errorf("spill %g: want a factor from 1 (spill what is lost) to 10", p.Spill)
	}
	return nil
}

// Cleanup gives the nodes back, and closes the idle connections of a transport
// that no configuration will use again.
func (p *Policy) Cleanup() error {
	unregister(p)
	p.members.release(clock())
	p.closeQueue()
	if p.transport != nil {
		return p.transport.Cleanup()
	}
	return nil
}

func (p *Policy) failures() int {
	switch {
	case p.EjectFailures < 0:
		return 0
	case p.EjectFailures == 0:
		return balance.DefaultFailures
	}
	return p.EjectFailures
}

// slowStart returns the configured slow start, 0 or less for none.
func (p *Policy) slowStart() time.Duration {
	if p.SlowStart == 0 {
		return balance.DefaultSlowStart
	}
	return time.Duration(p.SlowStart)
}

// Interface guards
var (
	_ caddy.Module          = (*Policy)(nil)
	_ caddy.Provisioner     = (*Policy)(nil)
	_ caddy.Validator       = (*Policy)(nil)
	_ caddy.CleanerUpper    = (*Policy)(nil)
	_ reverseproxy.Selector = (*Policy)(nil)
)
