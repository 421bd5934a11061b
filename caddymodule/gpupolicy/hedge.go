package gpupolicy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// hedger sends a request that its node leaves unanswered to a second node, and
// lets the first good answer win. Why and when is in balance/hedge.go; which
// requests is here.
//
// The race happens within one round trip of reverse_proxy, which knows nothing
// of it. So what reverse_proxy does for a node before it asks it (the header
// operations, the URL, placeholders), the hedge does for its own.
type hedger struct {
	handler *reverseproxy.Handler
	on      bool
}

// hedgerOf tells whether requests of the handler can be hedged at all: it is a
// retry ahead of time, so there must be retries.
func (p *Policy) hedgerOf(h *reverseproxy.Handler) hedger {
	transport, ok := p.roundTripper.(*reverseproxy.HTTPTransport)
	return hedger{
		handler: h,
		// Another node knows nothing of a session.
		on: !p.NoHedge && p.Sticky == nil && ok && transport.ProxyProtocol == "" && // which gives each client connections of its own
			(p.retries.limited || p.retries.timed),
	}
}

// race is between the two attempts of a hedged request. The request's goroutine
// runs the first; the hedge has one of its own, which ends before the round trip
// does, and so uses nothing that reverse_proxy takes back after it.
type race struct {
	observer *observer
	request  *http.Request // as the first attempt sends it
	state    *request
	first    *attempt
	url      url.URL       // of the first attempt, which sets its scheme meanwhile
	body     *bytes.Reader // nil without one

	timer   *time.Timer
	abandon context.CancelFunc // calls the first attempt off
	winner  atomic.Int32
	running sync.WaitGroup // of the hedge's goroutine, if the timer has fired

	mu        sync.Mutex
	over      bool               // the first attempt is
	answered  chan struct{}      // closed then, if the hedge's goroutine has made it
	cancel    context.CancelFunc // calls the hedge off
	cancelled bool

	// Of the hedge; to be read once its goroutine has ended.
	second   *attempt // nil if there was none
	hedge    outcome
	upstream dialInfo
}

// hedgeRecheck is how long a hedge for which no node has room waits until it
// looks again. It does not wait in the queue: there it would be first, and hold
// up requests that its own node could serve.
const hedgeRecheck = 20 * time.Millisecond

// uploadRate is what a body is granted, in bytes per second, on top of the
// node's patience: the record is one of mostly small requests, and a large one
// must arrive before it can be answered. It is that of a slow link between two
// regions.
const uploadRate = 10e6

const (
	nobody int32 = iota
	theFirst
	theHedge
)

// outcome is what came of an attempt.
type outcome struct {
	res     *http.Response
	verdict balance.Verdict
	err     error
}

// good tells whether it is an answer to be content with.
func (o *outcome) good() bool {
	return o.err == nil && (o.verdict == balance.Served || o.verdict == balance.Alive)
}

func (o *outcome) discard(a *attempt) {
	if o.res != nil && o.res.Body != nil {
		_ = o.res.Body.Close()
	}
	a.end(clock())
}

// race returns the race that the attempt may become, nil if it may not.
func (o *observer) race(r *http.Request, a *attempt) *race {
	p, state := o.policy, a.request
	if !p.hedger.on || a.member == nil || len(state.pool) < 2 || state.hedges > 0 || !isAsking(r) ||
		!p.retries.left(state.attempts()) {
		return nil
	}
	body, ok := replayable(r.Body)
	if !ok || len(r.Trailer) > 0 || caddyhttp.IsIncremental(r.Header) {
		return nil
	}
	c := &race{observer: o, state: state, first: a, url: *r.URL, body: body}
	patience, ok := c.patience()
	if !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	c.request, c.abandon = r.WithContext(ctx), cancel
	c.running.Add(1)
	c.timer = time.AfterFunc(patience, c.wait)
	return c
}

// isAsking tells whether the request is one that models are asked with. PUT and
// DELETE are retried when a connection breaks, but not run twice for being slow;
// and how long a tunnel or a stream of events is silent says nothing of its
// node.
func isAsking(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost:
		return r.Header.Get("Upgrade") == "" && !strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	}
	return false
}

// replayable returns a second reader of the body, nil if it has none; ok is
// false if it is not all in memory.
func replayable(body io.ReadCloser) (_ *bytes.Reader, ok bool) {
	if body == nil || body == http.NoBody {
		return nil, true
	}
	if reflect.TypeOf(body) != inMemory {
		return nil, false
	}
	reader, ok := reflect.TypeAssert[*bytes.Reader](reflect.ValueOf(body).Field(0))
	if !ok {
		return nil, false
	}
	second := *reader // nothing has been read yet
	return &second, true
}

// run is the round trip of a request that may be hedged.
func (c *race) run() (*http.Response, error) {
	o := c.observer
	settled := false
	defer func() {
		if !settled { // a panic
			c.abandon()
			if c.settle(theFirst) == theHedge {
				c.hedge.discard(c.second)
			}
		}
	}()
	var first outcome
	first.res, first.verdict, first.err = o.try(c.request, c.first)
	settled = true
	claim := nobody
	if first.good() {
		claim = theFirst
	}
	won := c.settle(claim) == theHedge
	if c.second != nil {
		hedges.WithLabelValues(hedgeOutcome(won)).Inc()
	}
	if won {
		first.discard(c.first)
		c.upstream.tell(c.state.of)
		return o.deliver(c.state.of, c.second, c.hedge.verdict, c.hedge.res), nil
	}
	if first.err != nil {
		c.abandon()
		c.state.unsent = c.second == nil && unsent(first.err)
		return nil, first.err
	}
	return o.deliver(c.state.of, c.first, first.verdict, first.res), nil
}

// settle ends the race after the first attempt, which claims the victory or, as
// nobody, leaves it to the hedge if there is one. It returns who has it.
func (c *race) settle(claim int32) int32 {
	if c.timer.Stop() {
		return claim // no hedge was sent, and none will be
	}
	c.end()
	if claim != nobody && c.winner.CompareAndSwap(nobody, claim) {
		c.callOff()
	}
	c.running.Wait()
	return c.winner.Load()
}

// end says that the first attempt is over.
func (c *race) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.answered != nil {
		close(c.answered)
	}
}

// follow lets the hedge's goroutine know of that, and reports whether it is so
// already.
func (c *race) follow() (over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.answered = make(chan struct{})
	}
	return c.over
}

// callOff ends the hedge, or keeps it from beginning.
func (c *race) callOff() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancelled = true
	if c.cancel != nil {
		c.cancel()
	}
}

// begin gives the hedge its context, unless it is called off already.
func (c *race) begin() (context.Context, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelled {
		return nil, false
	}
	ctx, cancel := context.WithCancel(c.state.of.Context())
	c.cancel = cancel
	return ctx, true
}

// wait begins when the patience that the node has earned is over, and hedges the
// request, unless answers to others have earned it more meanwhile.
func (c *race) wait() {
	defer c.running.Done()
	defer func() {
		if p := recover(); p != nil { // the server recovers only those of its own goroutines
			c.observer.policy.logger.Error("a hedged request panicked", zap.Any("panic", p))
		}
	}()
	if c.follow() {
		return
	}
	for {
		left, ok := c.patience()
		if !ok {
			return
		}
		if left <= 0 {
			break
		}
		if !c.pause(left) {
			return
		}
	}
	ctx, ok := c.begin()
	if !ok {
		return
	}
	if !c.send(ctx) {
		c.callOff() // it goes no further, and its context with it
	}
}

// patience is for how much longer the node may be silent.
func (c *race) patience() (left time.Duration, ok bool) {
	left, ok = c.first.Patience(clock())
	if c.body != nil {
		left += time.Duration(float64(c.body.Size()) / uploadRate * float64(time.Second))
	}
	return left, ok
}

// pause waits, and reports whether the first attempt still does.
func (c *race) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.answered:
		return false
	}
}

// send makes the second attempt, once a node has room for it, and reports
// whether its answer is the first good one.
func (c *race) send(ctx context.Context) bool {
	o, p := c.observer, c.observer.policy
	r, repl := c.repeat(ctx)
	if !p.hedger.allows(r, repl) {
		return false
	}
	var upstream *reverseproxy.Upstream
	var a *attempt
	for {
		var spent bool
		if upstream, a, spent = p.pickHedge(c.state); a != nil {
			break
		}
		if spent || !c.pause(hedgeRecheck) {
			return false
		}
	}
	c.second = a
	info, err := direct(r, repl, upstream)
	if err != nil {
		a.end(clock())
		return false
	}
	p.hedger.prepare(r, o.RequestHeaderOps())
	c.upstream = info
	c.hedge.res, c.hedge.verdict, c.hedge.err = o.try(r, a) //nolint:bodyclose // discarded, or delivered by run
	if !c.hedge.good() || !c.winner.CompareAndSwap(nobody, theHedge) {
		c.hedge.discard(a)
		return false
	}
	c.first.lose(clock())
	c.abandon()
	return true
}
