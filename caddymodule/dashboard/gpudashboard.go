package dashboard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/internal/accept"
)

func init() { caddy.RegisterModule(new(GPUDashboard)) }

// GPUDashboard serves a page that shows what the gateway thinks of its nodes,
// live: state and reason, requests in flight, percentiles, errors, each node's
// share of the requests, GPU use, memory and temperature with their age, and
// why the last requests went where they went. It reads the same state as
// /gpu/nodes on Caddy's admin endpoint.
//
// The page follows by server-sent events; without JavaScript it is a table that
// the browser loads anew every few seconds. The same address gives JSON to
// those who prefer it, `Accept: application/json`. Other requests are passed
// on.
//
// It shows addresses of nodes, and with `orders` takes nodes out of service:
// put an authentication before it.
type GPUDashboard struct {
	// Where the page is, with everything below it. Default: `/`.
	Path string `json:"path,omitempty"`

	// The heading. Default: in the reader's language.
	Title string `json:"title,omitempty"`

	// How often the page is told of changes. Default: 1s; at least 100ms.
	Interval caddy.Duration `json:"interval,omitempty"`

	// How many may look at the live page at a time; the next are answered 503,
	// and their page asks again. Default: 100.
	MaxViewers int `json:"max_viewers,omitempty"`

	// Orders lets readers drain nodes and put them back, through Caddy's admin
	// endpoint at this address, such as `localhost:2019`. Without it, and while
	// that endpoint can't be reached, the page only shows. Requests from other
	// sites are refused, and orders over plain HTTP unless the site is called by
	// IP address or as localhost, or an authentication handler has let the
	// reader in.
	Orders string `json:"orders,omitempty"`

	sampler *sampler
	viewers chan struct{} // a place for each
	admin   *adminEndpoint
	gone    context.Context // ends with the configuration
	csrf    *http.CrossOriginProtection
}

const (
	defaultInterval   = time.Second
	leastInterval     = 100 * time.Millisecond
	defaultMaxViewers = 100
)

// CaddyModule returns the Caddy module information.
func (*GPUDashboard) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.gpu_dashboard",
		New: func() caddy.Module { return new(GPUDashboard) },
	}
}

// Provision fills in the defaults.
func (m *GPUDashboard) Provision(ctx caddy.Context) error {
	m.fillDefaults()
	m.gone = ctx
	m.sampler = newSampler(time.Duration(m.Interval))
	m.viewers = make(chan struct{}, m.MaxViewers)
	m.csrf = http.NewCrossOriginProtection()
	if m.Orders != "" {
		var err error
		if m.admin, err = newAdminEndpoint(m.Orders); err != nil {
			return fmt.Errorf("gpu_dashboard: %w", err)
		}
	}
	return nil
}

func (m *GPUDashboard) fillDefaults() {
	if m.Path == "" {
		m.Path = "/"
	}
	if !strings.HasSuffix(m.Path, "/") {
		m.Path += "/"
	}
	if m.Interval == 0 {
		m.Interval = caddy.Duration(defaultInterval)
	}
	if m.MaxViewers == 0 {
		m.MaxViewers = defaultMaxViewers
	}
}

// Validate reports settings the page can't work with.
func (m *GPUDashboard) Validate() error {
	switch {
	case !strings.HasPrefix(m.Path, "/"), path.Clean(m.Path) != strings.TrimSuffix(m.Path, "/") && m.Path != "/", strings.ContainsAny(m.Path, "*?#{}"):
		return fmt.Errorf("checking gpu_dashboard: path %q must be a plain path that begins with a slash", m.Path)
	case time.Duration(m.Interval) < leastInterval:
		return fmt.Errorf("checking gpu_dashboard: interval %v: give at least %v", time.Duration(m.Interval), leastInterval)
	case m.MaxViewers < 0:
		return fmt.Errorf("checking gpu_dashboard: max_viewers %d: give a number above zero", m.MaxViewers)
	}
	return nil
}

// ServeHTTP answers requests for the page and what belongs to it, and passes on
// the rest.
func (m *GPUDashboard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if m.Path != "/" && r.URL.Path == strings.TrimSuffix(m.Path, "/") && isRead(r) {
		redirectToSlash(w, r)
		return nil
	}
	rest, ok := strings.CutPrefix(r.URL.Path, m.Path)
	if !ok && r.URL.Path == "" && m.Path == "/" { // what handle_path leaves of its own prefix
		ok = true
	}
	if !ok {
		return next.ServeHTTP(w, r)
	}
	if rest == "orders" && m.admin != nil {
		return m.serveOrder(w, r)
	}
	asset, isAsset := dashboardAssets[rest]
	if rest != "" && rest != "events" && !isAsset {
		return next.ServeHTTP(w, r)
	}
	if !isRead(r) {
		return methodNotAllowed(w)
	}
	switch {
	case isAsset:
		serve(w, r, asset)
		return nil
	case rest == "events":
		return m.serveEvents(w, r)
	default:
		return m.servePage(w, r)
	}
}

func (m *GPUDashboard) servePage(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Add("Vary", "Accept, Accept-Language")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	state := m.sampler.take(time.Now())
	if accept.Prefers(r.Header, "application/json", "text/html") {
		h.Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(state)
	}
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && !strings.HasSuffix(original.URL.Path, "/") {
		redirectToSlash(w, &original)
		return nil
	}
	lang := language(r)
	page, err := m.renderPage(state, lang, m.orders(r))
	if err != nil {
		return err
	}
	h.Set("Content-Security-Policy", dashboardPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Language", lang)
	h.Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(page) //nolint:gosec // html/template has escaped it
	return err
}

// dashboardPolicy is contentSecurityPolicy, and lets orders be sent.
var dashboardPolicy = strings.Replace(contentSecurityPolicy, "form-action 'none'", "form-action 'self'", 1)

// orders tells whether orders can be given now.
func (m *GPUDashboard) orders(r *http.Request) bool {
	return m.admin != nil && !rebindable(r) && m.admin.reachable(r.Context())
}

// writeTimeout ends a viewer that reads nothing.
const writeTimeout = 10 * time.Second

// serveEvents tells the page how it looks now, once an interval, until the
// reader or the configuration leaves.
func (m *GPUDashboard) serveEvents(w http.ResponseWriter, r *http.Request) error {
	select {
	case m.viewers <- struct{}{}:
		defer func() { <-m.viewers }()
	default:
		w.Header().Set("Retry-After", "5")
		return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("too many look at the dashboard"))
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return nil
	}
	lang := language(r)
	rc := http.NewResponseController(w)
	tick := time.NewTicker(time.Duration(m.Interval))
	defer tick.Stop()
	for {
		body, err := m.renderBody(m.sampler.take(time.Now()), lang, m.orders(r))
		if err != nil {
			return err
		}
		data, err := json.Marshal(string(body))
		if err != nil {
			return err
		}
		_ = rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // best effort: not all can
		var event bytes.Buffer
		event.WriteString("retry: 1000\ndata: ")
		event.Write(data)
		event.WriteString("\n\n")
		if _, err := w.Write(event.Bytes()); err != nil {
			return nil //nolint:nilerr // the reader has left
		}
		if err := rc.Flush(); err != nil {
			return nil //nolint:nilerr // the reader has left
		}
		if !m.awaitTick(r.Context(), tick.C) {
			return nil
		}
	}
}

// exitCheck is how often a stream looks whether the process is to end: Caddy
// waits for requests under way before it ends configurations, without limit
// where no grace_period is configured.
const exitCheck = 200 * time.Millisecond

// awaitTick returns whether the stream goes on: neither its reader nor its
// configuration leaves. The page connects again, to the next configuration.
func (m *GPUDashboard) awaitTick(ctx context.Context, tick <-chan time.Time) bool {
	exit := time.NewTicker(exitCheck)
	defer exit.Stop()
	for {
		select {
		case <-tick:
			return !caddy.Exiting()
		case <-exit.C:
			if caddy.Exiting() {
				return false
			}
		case <-ctx.Done():
			return false
		case <-m.gone.Done():
			return false
		}
	}
}

// serveOrder takes a form or JSON with a node and an order, and passes it to the
// admin endpoint.
func (m *GPUDashboard) serveOrder(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	refuse := func(status int, err error) error {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		return json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
	}
	if err := m.csrf.Check(r); err != nil {
		return refuse(http.StatusForbidden, errors.New("orders are taken from the dashboard's own page only"))
	}
	if rebindable(r) {
		return refuse(http.StatusForbidden, errors.New("orders need HTTPS, or somebody whom an authentication has let in, or the site by its IP address or as localhost"))
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4096)
	node, order := r.PostFormValue("node"), r.PostFormValue("order")
	if node == "" || order != "drain" && order != "resume" {
		return refuse(http.StatusBadRequest, errors.New("want a node, and drain or resume as the order"))
	}
	if status, err := m.admin.order(r.Context(), node, order); err != nil {
		return refuse(status, err)
	}
	// The page asks in the background; a form without script wants the page.
	if r.Header.Get("X-Requested-With") == "" {
		w.Header().Set("Location", ".")
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*GPUDashboard)(nil)
	_ caddy.Validator             = (*GPUDashboard)(nil)
	_ caddyhttp.MiddlewareHandler = (*GPUDashboard)(nil)
)
