package gpupolicy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/caddymodule/healthcheck"
)

// Health checks whether nodes can serve, by GET requests through the handler's
// own transport, each on a connection of its own.
//
// Unlike reverse_proxy's health_uri: thresholds count in a row; nodes found
// dynamically are checked, too; verdicts survive reloads; a node that several
// handlers check alike is asked once. A check that times out at a node which
// answers requests or may still be working on some, or is answered by 429 or by 503 with Retry-After, means
// busy and fails nothing.
type Health struct {
	// The path and query to ask for.
	URI string `json:"uri,omitempty"`

	// The pause between checks, ±10 %. A node that is down is asked after a
	// quarter of it, and after a sixteenth if it refuses connections or has
	// passed. Default: 1s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// How long a check may take. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many checks in a row a node that is down must pass to be up again.
	// Default: 2.
	Rise int `json:"rise,omitempty"`

	// How many checks in a row a node must fail to be down. Default: 3.
	Fall int `json:"fall,omitempty"`

	// The status codes that pass; a single digit stands for its class.
	// Default: 2 (200 to 299).
	Status []int `json:"status,omitempty"`

	// A regular expression (RE2) that the answer must match.
	Body string `json:"body,omitempty"`

	// A key of the JSON answer that must say yes: true, 1, or a word such as
	// "healthy" or "ok". Dots lead into objects.
	JSONKey string `json:"json_key,omitempty"`

	// What the key must be instead of yes.
	JSONValue string `json:"json_value,omitempty"`

	// Header fields of the requests; placeholders of the environment are
	// replaced. Host sets the host.
	Headers http.Header `json:"headers,omitempty"`

	// Whether nodes count as up (the default) or down until their first checks
	// say otherwise.
	Start string `json:"start,omitempty"`

	uri   *url.URL
	check healthcheck.Check
	key   string
}

const (
	defaultHealthInterval = time.Second
	defaultHealthTimeout  = 2 * time.Second
	defaultRise           = 2
	defaultFall           = 3
	maxRow                = 1000
)

// provision checks the settings and fills in defaults.
func (h *Health) provision(repl *caddy.Replacer) (err error) {
	if h.uri, err = url.Parse(h.URI); err != nil || !strings.HasPrefix(h.URI, "/") || h.uri.Host != "" {
		return fmt.Errorf("health: '%s' is not a path, such as /health", h.URI)
	}
	c := healthcheck.Check{
		Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
		Rise: h.Rise, Fall: h.Fall, Status: h.Status,
		StartDown: h.Start == "down",
		Key:       h.JSONKey, Value: h.JSONValue,
	}
	if c.Interval == 0 {
		c.Interval = defaultHealthInterval
	}
	if c.Timeout == 0 {
		c.Timeout = defaultHealthTimeout
	}
	if c.Rise == 0 {
		c.Rise = defaultRise
	}
	if c.Fall == 0 {
		c.Fall = defaultFall
	}
	if len(c.Status) == 0 {
		c.Status = []int{2}
	}
	for name, d := range map[string]time.Duration{"interval": c.Interval, "timeout": c.Timeout} {
		if d < minInterval || d > maxInterval {
			return fmt.Errorf("health %s: %v is not a duration from %v to %v", name, d, minInterval, maxInterval)
		}
	}
	for name, n := range map[string]int{"rise": c.Rise, "fall": c.Fall} {
		if n < 1 || n > maxRow {
			return fmt.Errorf("health %s: %d is not a number from 1 to %d", name, n, maxRow)
		}
	}
	for _, s := range c.Status {
		if (s < 1 || s > 5) && (s < 100 || s > 599) {
			return fmt.Errorf("health status: %d is neither a status such as 200 nor a class such as 2xx", s)
		}
	}
	if h.Start != "" && h.Start != "up" && h.Start != "down" {
		return fmt.Errorf("health start: '%s' is neither up nor down", h.Start)
	}
	if h.JSONValue != "" && h.JSONKey == "" {
		return errors.New("health: json_value without json_key")
	}
	if h.Body != "" {
		if c.Body, err = regexp.Compile(h.Body); err != nil {
			return fmt.Errorf("health body: %w", err)
		}
	}
	headers := make(http.Header)
	for name, values := range h.Headers {
		for _, v := range values {
			headers.Add(name, repl.ReplaceKnown(v, ""))
		}
	}
	h.Headers, h.check = headers, c
	key, err := json.Marshal(h)
	h.key = string(key)
	return err
}

// target says how to reach a node for a check.
func (h *Health) target(p *Policy, m *member) (healthcheck.Target, error) {
	repl := caddy.NewReplacer()
	dial, err := repl.ReplaceOrErr(m.dial, true, true)
	if err != nil {
		return healthcheck.Target{}, err
	}
	addr, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return healthcheck.Target{}, err
	}
	if addr.PortRangeSize() != 1 {
		return healthcheck.Target{}, fmt.Errorf("%s is not one address", dial)
	}
	info := reverseproxy.DialInfo{
		Upstream: &reverseproxy.Upstream{Dial: dial, Host: new(reverseproxy.Host)},
		Network:  addr.Network,
		Address:  addr.JoinHostPort(0),
		Host:     addr.Host,
		Port:     strconv.Itoa(int(addr.StartPort)),
	}
	at := url.URL{Scheme: "http", Host: info.Address, Path: h.uri.Path, RawPath: h.uri.RawPath, RawQuery: h.uri.RawQuery}
	if addr.IsUnixNetwork() || addr.IsFdNetwork() {
		at.Host = "localhost" // a path is no host
	}
	if t, ok := p.roundTripper.(reverseproxy.HealthCheckSchemeOverriderTransport); ok {
		t.OverrideHealthCheckScheme(&at, info.Port)
	}
	return healthcheck.Target{
		Key:       strings.Join([]string{m.dial, h.key, transportKey(p.roundTripper)}, "\n"),
		Transport: p.roundTripper,
		Request:   func(ctx context.Context) (*http.Request, error) { return h.request(ctx, info, at) },
		Answered:  func(since time.Time) bool { return m.node.Answered(since.Sub(epoch)) },
		Working:   func() bool { return m.node.Working(clock()) },
	}, nil
}

// dialInfoKey is where reverse_proxy's transports look for the address to
// dial; reverseproxy.GetDialInfo reads it, and a test compares the two.
const dialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

func (h *Health) request(ctx context.Context, info reverseproxy.DialInfo, at url.URL) (*http.Request, error) {
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, make(map[string]any))
	ctx = context.WithValue(ctx, dialInfoKey, info)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, *r))
	r.Header = h.Headers.Clone()
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host")
	}
	if _, given := r.Header["User-Agent"]; !given {
		r.Header.Set("User-Agent", "caddy-infer health check")
	}
	return r, nil
}

// transportKey tells transports of different settings apart. Modules that a
// transport has loaded no longer show in it: of two handlers that trust
// different authorities, otherwise alike, the newer one's transport checks.
func transportKey(t http.RoundTripper) string {
	key, err := json.Marshal(t)
	if err != nil {
		return fmt.Sprintf("%p", t)
	}
	return fmt.Sprintf("%T %s", t, key)
}

// checkHealth begins to check a member.
func (p *Policy) checkHealth(m *member) {
	if p.Health == nil || p.roundTripper == nil {
		return
	}
	target, err := p.Health.target(p, m)
	if err != nil {
		p.logger.Warn("the node can't be checked: its address varies with the request", zap.String("node", m.dial), zap.Error(err))
		return
	}
	m.health = healthcheck.New(p.Health.check, target, func(c healthcheck.Change) {
		p.healthChanged(clock(), m, c.Down || m.unhealthy.Load(), "health check: "+c.Reason)
	})
	m.down.Store(m.health.Down())
}

// isDown says what health checks make of the node, Caddy's and ours.
func (p *Policy) isDown(now time.Duration, m *member, u *reverseproxy.Upstream) bool {
	down := !u.Healthy()
	if down != m.unhealthy.Load() {
		m.unhealthy.Store(down)
	}
	if m.health != nil {
		down = down || m.health.Down()
	}
	if down != m.down.Load() {
		p.healthChanged(now, m, down, "health check")
	}
	return down
}

// healthChanged notes that health checks changed their mind.
func (p *Policy) healthChanged(now time.Duration, m *member, down bool, reason string) {
	if !m.down.CompareAndSwap(!down, down) {
		return
	}
	if !down {
		m.warmSince.Store(int64(now))
		m.node.Recover(now)
	}
	if _, drained := m.node.Drained(); drained {
		return // and stays so
	}
	c := balance.Change{Node: m.node, Old: balance.Down, New: balance.Down, Reason: reason, At: now}
	if down {
		c.Old = m.node.State(now, p.slowStart())
	} else {
		c.New = p.state(now, m)
	}
	p.note(c)
}
