package gpupolicy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// observer is the handler's transport with eyes: it sees each attempt's first
// byte, status, headers and errors at once, where a policy alone would learn
// only at the end of a request, of its last attempt only, and of transport
// errors nothing.
type observer struct {
	http.RoundTripper
	policy *Policy
}

// parent returns the reverse_proxy handler that is being provisioned around
// the policy, however many other modules lie between.
func parent(ctx caddy.Context) *reverseproxy.Handler {
	modules := ctx.Modules()
	for _, module := range slices.Backward(modules) {
		if h, ok := module.(*reverseproxy.Handler); ok {
			return h
		}
	}
	return nil
}

// observe puts an observer around the handler's transport. The handler loads
// its transport before its policy, and makes the default one only after, if
// there is none yet; so the default is made here.
func observe(ctx caddy.Context, h *reverseproxy.Handler, p *Policy) error {
	inner := h.Transport
	if inner == nil {
		t := new(reverseproxy.HTTPTransport)
		if err := t.Provision(ctx); err != nil {
			return fmt.Errorf("provisioning default transport: %w", err)
		}
		p.transport = t
		inner = t
	}
	p.roundTripper = inner
	h.Transport = &observer{RoundTripper: inner, policy: p}
	return nil
}

// RoundTrip passes the request on and notes what comes of it. Requests that
// the policy did not pick for, as Caddy's health checks, pass unseen: they are
// no user's experience.
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	state := o.request(r)
	if state == nil {
		return o.RoundTripper.RoundTrip(r)
	}
	if state.overspent {
		return o.refuseRetry(r, state), nil
	}
	a := state.take()
	if a == nil {
		return o.RoundTripper.RoundTrip(r)
	}
	if c := o.race(r, a); c != nil {
		return c.run()
	}
	res, verdict, err := o.try(r, a)
	if err != nil {
		state.unsent = unsent(err)
		return nil, err
	}
	return o.deliver(r, a, verdict, res), nil
}

// try makes the attempt and judges the node by it.
func (o *observer) try(r *http.Request, a *attempt) (*http.Response, balance.Verdict, error) {
	settled := false
	defer func() {
		if !settled { // a panic
			a.end(clock())
		}
	}()

	var upload *requestBody
	if arrivesSlowly(r.Body) {
		if a.request.spent.Load() {
			settled = true
			a.end(clock())
			return nil, 0, errSpent
		}
		upload = &requestBody{ReadCloser: r.Body, attempt: a}
		copied := *r
		copied.Body = upload
		r = &copied
	}
	ask := a.member != nil && o.policy.orca && !gpuprobe.WantsORCA(r.Header)
	if ask {
		if upload == nil {
			copied := *r
			r = &copied
		}
		r.Header = r.Header.Clone() // those of a later attempt are others
		gpuprobe.AskORCA(r.Header)
	}
	res, err := o.RoundTripper.RoundTrip(r)
	settled = true
	now := clock()
	if err != nil {
		if !calledOff(r.Context(), err) && (upload == nil || !upload.broken.Load()) {
			a.Answer(now, balance.Failed, 0)
		}
		a.end(now)
		return nil, 0, err
	}
	if a.member != nil && o.policy.orca {
		o.policy.hearResponse(now, a.member, res.Header)
	}
	if ask { // what the client did not ask for is not for it to see
		gpuprobe.DropORCA(res.Header)
	}
	verdict, retryAfter := judge(res)
	a.Answer(now, verdict, retryAfter)
	if a.paid && (verdict == balance.Served || verdict == balance.Alive) {
		o.policy.budget.Good(now)
	}
	return res, verdict, nil
}

// deliver makes an attempt's response the request's.
func (o *observer) deliver(r *http.Request, a *attempt, verdict balance.Verdict, res *http.Response) *http.Response {
	o.policy.tell(r, a, verdict)
	o.policy.pinAnswer(r, a, verdict, res.Header)
	res.Body = watch(r, res, a)
	return res
}

// errSpent is what becomes of a retry without its body: the next node would be
// sent less than was announced, and be blamed for it.
var errSpent = errors.New("the request can't be repeated: its body is larger than request_buffers, and another node was already sent some of it")

// request returns what the policy remembers of a request, nil if it is none of
// its own.
func (o *observer) request(r *http.Request) *request {
	vars, ok := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return nil
	}
	state, _ := vars[o.policy.varKey].(*request)
	return state
}

// calledOff reports whether an error is due to the client's leaving.
func calledOff(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled)
}

var inMemory = reflect.TypeOf(io.NopCloser(bytes.NewReader(nil)))

// arrivesSlowly reports whether reading the body can mean waiting for the
// client. A body that Caddy has buffered is left as it is, because net/http
// sends it in one packet with the header when it sees its type.
func arrivesSlowly(body io.ReadCloser) bool {
	return body != nil && body != http.NoBody && reflect.TypeOf(body) != inMemory
}

// Unwrap returns the transport that is observed.
func (o *observer) Unwrap() http.RoundTripper { return o.RoundTripper }

// What follows passes on the abilities that Caddy asks transports for. For a
// transport without an ability, each answers as Caddy takes its absence.

// TLSEnabled implements reverseproxy.TLSTransport.
func (o *observer) TLSEnabled() bool {
	t, ok := o.RoundTripper.(reverseproxy.TLSTransport)
	return ok && t.TLSEnabled()
}

// EnableTLS implements reverseproxy.TLSTransport.
func (o *observer) EnableTLS(base *reverseproxy.TLSConfig) error {
	if t, ok := o.RoundTripper.(reverseproxy.TLSTransport); ok {
		return t.EnableTLS(base)
	}
	return fmt.Errorf("enabling TLS: transport %T is not capable of it", o.RoundTripper)
}

// EnableH2C implements reverseproxy.H2CTransport.
func (o *observer) EnableH2C() error {
	if t, ok := o.RoundTripper.(reverseproxy.H2CTransport); ok {
		return t.EnableH2C()
	}
	return fmt.Errorf("enabling h2c: transport %T is not capable of it", o.RoundTripper)
}

// ProxyProtocolEnabled implements reverseproxy.ProxyProtocolTransport.
func (o *observer) ProxyProtocolEnabled() bool {
	t, ok := o.RoundTripper.(reverseproxy.ProxyProtocolTransport)
	return ok && t.ProxyProtocolEnabled()
}

// OverrideHealthCheckScheme implements reverseproxy.HealthCheckSchemeOverriderTransport.
func (o *observer) OverrideHealthCheckScheme(base *url.URL, port string) {
	if t, ok := o.RoundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		t.OverrideHealthCheckScheme(base, port)
	}
}

// RequiresContentLength implements reverseproxy.ContentLengthRequiredTransport.
func (o *observer) RequiresContentLength() bool {
	t, ok := o.RoundTripper.(reverseproxy.ContentLengthRequiredTransport)
	return ok && t.RequiresContentLength()
}

// DefaultBufferSizes implements reverseproxy.BufferedTransport.
func (o *observer) DefaultBufferSizes() (int64, int64) {
	if t, ok := o.RoundTripper.(reverseproxy.BufferedTransport); ok {
		return t.DefaultBufferSizes()
	}
	return 0, 0
}

// RequestHeaderOps implements reverseproxy.RequestHeaderOpsTransport.
func (o *observer) RequestHeaderOps() *headers.HeaderOps {
	if t, ok := o.RoundTripper.(reverseproxy.RequestHeaderOpsTransport); ok {
		return t.RequestHeaderOps()
	}
	return nil
}

// Interface guards
var (
	_ http.RoundTripper                                = (*observer)(nil)
	_ reverseproxy.TLSTransport                        = (*observer)(nil)
	_ reverseproxy.H2CTransport                        = (*observer)(nil)
	_ reverseproxy.ProxyProtocolTransport              = (*observer)(nil)
	_ reverseproxy.HealthCheckSchemeOverriderTransport = (*observer)(nil)
	_ reverseproxy.ContentLengthRequiredTransport      = (*observer)(nil)
	_ reverseproxy.BufferedTransport                   = (*observer)(nil)
	_ reverseproxy.RequestHeaderOpsTransport           = (*observer)(nil)
)
