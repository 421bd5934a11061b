package modelproxy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

// The defaults.
const (
	// Bodies of so many bytes can be sent to a second node. reverse_proxy takes
	// a body that fills its buffer for a longer one, hence one more.
	bodyLimit      = 8 << 20
	requestBuffers = bodyLimit + 1

	connectTimeout   = 2 * time.Second
	firstByteTimeout = 30 * time.Second

	// How long streams and websockets stay open when a reload replaces their
	// configuration. There is no stream_timeout: it would cut them off in use.
	streamCloseDelay = 300 * time.Second

	healthPath = "/health"

	// At most one retry for each other node, and never more than:
	maxRetries = 3
)

// repeatable are the methods that are sent again when a connection breaks.
// POST is one because that is how models are asked; for what must run at most
// once there is no_retry.
var repeatable = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"}

// Answers that are tried elsewhere: the node's app is gone (502, 504) or busy
// (429, 503). With lb_policy gpu, the policy says whether there is an
// elsewhere: an answer that matches without would reach the client as a bare
// status. With a fallback, every failure but a busy one matches, so that the
// fallback hears of it.
const (
	failedOrBusy   = `{http.reverse_proxy.status_code} in [429, 502, 503, 504]`
	elsewhere      = failedOrBusy + ` && {` + gpupolicy.PlaceholderElsewhere + `}`
	elsewhereOrOwn = failedOrBusy + ` && ({` + gpupolicy.PlaceholderElsewhere + `} || !{` + gpupolicy.PlaceholderBusy + `})`
	never          = `false`
)

// caddysChecks are options of reverse_proxy's own active checks that ours have
// no like of: with one of them given, those are used.
var caddysChecks = []string{
	"health_uri", "health_path", "health_port", "health_upstream", "health_method",
	"health_request_body", "health_follow_redirects",
}

// health decides who checks the nodes, and returns what reverse_proxy is to
// read. Without caddysChecks, health_interval and the like set our checks.
func (b *block) health() (rest []caddyfile.Segment, err error) {
	own, given := b.names["health"]
	caddys, has := b.has(caddysChecks...)
	if has && given && b.policy.Health != nil {
		return nil, at(caddys).Errf("%s: health is given, too; it replaces reverse_proxy's checks", caddys.Directive())
	}
	if b.foreign || has {
		return b.rest, nil
	}
	var checks []caddyfile.Segment
	for _, s := range b.rest {
		if strings.HasPrefix(s.Directive(), "health_") {
			checks = append(checks, s)
		} else {
			rest = append(rest, s)
		}
	}
	if given && b.policy.Health == nil { // off
		if len(checks) > 0 {
			return nil, at(checks[0]).Errf("%s: but health is off", checks[0].Directive())
		}
		return rest, nil
	}
	if b.policy.Health == nil {
		b.policy.Health = &gpupolicy.Health{URI: healthPath}
	}
	if len(checks) == 0 {
		return rest, nil
	}
	var h reverseproxy.Handler
	if err := h.UnmarshalCaddyfile(b.wrap("reverse_proxy", nil, checks)); err != nil {
		return nil, err
	}
	if given && len(own) > 2 { // with a block
		return nil, at(checks[0]).Errf("%s: health has options of its own; give it there", checks[0].Directive())
	}
	ours, theirs := b.policy.Health, h.HealthChecks.Active
	ours.Interval, ours.Timeout = theirs.Interval, theirs.Timeout
	ours.Rise, ours.Fall = theirs.Passes, theirs.Fails
	ours.Body, ours.Headers = theirs.ExpectBody, theirs.Headers
	if theirs.ExpectStatus != 0 {
		ours.Status = []int{theirs.ExpectStatus}
	}
	return rest, nil
}

func (b *block) setDefaults(proxy *reverseproxy.Handler) error {
	if proxy.LoadBalancing == nil {
		proxy.LoadBalancing = new(reverseproxy.LoadBalancing)
	}
	if !b.foreign {
		proxy.LoadBalancing.SelectionPolicyRaw = caddyconfig.JSONModuleObject(b.policy, "policy", "gpu", nil)
	}
	b.defaultChecks(proxy)
	if err := b.defaultRetries(proxy); err != nil {
		return err
	}
	if _, given := b.has("request_buffers"); !given {
		proxy.RequestBuffers = requestBuffers
	}
	if _, given := b.has("stream_close_delay"); !given {
		proxy.StreamCloseDelay = caddy.Duration(streamCloseDelay)
	}
	return b.defaultTransport(proxy)
}

// defaultChecks completes reverse_proxy's own checks, where they are used.
func (b *block) defaultChecks(proxy *reverseproxy.Handler) {
	_, asked := b.has(caddysChecks...)
	if !asked && !b.foreign {
		return
	}
	if proxy.HealthChecks == nil {
		proxy.HealthChecks = new(reverseproxy.HealthChecks)
	}
	if proxy.HealthChecks.Active == nil {
		proxy.HealthChecks.Active = new(reverseproxy.ActiveHealthChecks)
	}
	c := proxy.HealthChecks.Active
	if _, given := b.has("health_uri", "health_path"); !given {
		c.URI = healthPath
	}
	if c.Interval == 0 {
		c.Interval = caddy.Duration(time.Second)
	}
	if c.Timeout == 0 {
		c.Timeout = caddy.Duration(2 * time.Second)
	}
	if c.Passes == 0 {
		c.Passes = 2
	}
	if c.Fails == 0 {
		c.Fails = 3
	}
}

func (b *block) defaultRetries(proxy *reverseproxy.Handler) error {
	lb := proxy.LoadBalancing
	_, limited := b.has("lb_retries", "lb_try_duration")
	if !limited {
		lb.Retries = maxRetries
		if proxy.DynamicUpstreamsRaw == nil {
			// One node deserves a second try, too: it may have closed the
			// idle connection that the first was sent on.
			lb.Retries = min(max(1, len(proxy.Upstreams)-1), maxRetries)
		}
	}
	match, given := b.has("lb_retry_match")
	switch {
	case given && b.noRetry:
		return at(match).Err("lb_retry_match: no_retry is given, which allows no repetition")
	case given:
	case b.noRetry:
		// What could not connect has sent nothing, and reverse_proxy always
		// retries that. Everything else is asked of the matchers.
		lb.RetryMatchRaw = append(lb.RetryMatchRaw, caddy.ModuleMap{"expression": raw(never)})
	default:
		answers := elsewhere
		switch {
		case b.foreign:
			answers = failedOrBusy
		case b.fallback != "":
			answers = elsewhereOrOwn
		}
		lb.RetryMatchRaw = append(lb.RetryMatchRaw,
			caddy.ModuleMap{"method": raw(repeatable)},
			caddy.ModuleMap{"expression": raw(answers)},
		)
	}
	return nil
}

// defaultTransport fills in what the transport leaves open.
func (b *block) defaultTransport(proxy *reverseproxy.Handler) error {
	transport := map[string]json.RawMessage{"protocol": raw("http")}
	if proxy.TransportRaw != nil {
		if err := json.Unmarshal(proxy.TransportRaw, &transport); err != nil {
			return fmt.Errorf("reading the transport: %w", err)
		}
	}
	if !slices.Equal(transport["protocol"], raw("http")) {
		return nil
	}
	fill := func(name string, value any) {
		if _, given := transport[name]; !given {
			transport[name] = raw(value)
		}
	}
	fill("dial_timeout", caddy.Duration(connectTimeout))
	fill("response_header_timeout", caddy.Duration(firstByteTimeout))
	if b.noRetry {
		if err := b.freshConnections(transport); err != nil {
			return err
		}
	}
	proxy.TransportRaw = raw(transport)
	return nil
}

// freshConnections rules out what net/http repeats by itself, unseen by
// reverse_proxy: a GET on a kept connection that turns out to be closed.
func (b *block) freshConnections(transport map[string]json.RawMessage) error {
	var keep struct {
		Enabled *bool `json:"enabled"`
	}
	if settings, given := transport["keep_alive"]; given {
		if err := json.Unmarshal(settings, &keep); err != nil {
			return fmt.Errorf("reading keepalive: %w", err)
		}
		if keep.Enabled == nil || *keep.Enabled {
			return at(b.names["transport"]).Err("transport: no_retry needs fresh connections, so keepalive can only be off: Go repeats requests on kept ones that turn out to be closed")
		}
	}
	transport["keep_alive"] = raw(map[string]bool{"enabled": false})
	return nil
}

func raw(v any) json.RawMessage {
	return caddyconfig.JSON(v, nil)
}
