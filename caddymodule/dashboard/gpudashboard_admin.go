package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const (
	adminTimeout = 5 * time.Second
	// adminRecheck is how long it is believed that the endpoint can be reached,
	// or can't.
	adminRecheck = 5 * time.Second
)

// adminEndpoint is Caddy's, over its own interface: orders are under its rules
// of access, and not possible where it is off.
type adminEndpoint struct {
	base   string
	client *http.Client

	mu      sync.Mutex
	checked time.Time
	there   bool
}

// rebindable tells whether the request may come from a page of another site
// whose name now leads here (DNS rebinding): to the browser it is of the same
// origin. Caddy's admin endpoint knows its own names; a dashboard's site may
// have any. No such page has a certificate of the site's name, an address for
// a name, or what the reader signed in with.
func rebindable(r *http.Request) bool {
	if r.TLS != nil {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return false
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		user, _ := repl.GetString("http.auth.user.id")
		return user == ""
	}
	return true
}

func newAdminEndpoint(address string) (*adminEndpoint, error) {
	addr, err := caddy.ParseNetworkAddressWithDefaults(address, "tcp", 2019)
	if err != nil || addr.PortRangeSize() != 1 {
		return nil, fmt.Errorf("orders: %q is no address of an admin endpoint, such as localhost:2019", address)
	}
	network, target := addr.Network, addr.JoinHostPort(0)
	base := "http://" + target
	if addr.IsUnixNetwork() {
		base = "http://127.0.0.1" // what the endpoint expects of such clients
	}
	return &adminEndpoint{base: base, client: &http.Client{
		Timeout: adminTimeout,
		// A connection for each request: none is left when the configuration goes.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, target)
		}},
	}}, nil
}

func (a *adminEndpoint) do(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, nil) //nolint:gosec // a.base is of the configuration, and the path escaped
	if err != nil {
		return nil, err
	}
	req.Header.Set("Origin", a.base)
	return a.client.Do(req) //nolint:gosec // as above
}

// reachable tells whether the endpoint answers, and takes requests from here.
func (a *adminEndpoint) reachable(ctx context.Context) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.checked) < adminRecheck {
		return a.there
	}
	resp, err := a.do(ctx, http.MethodHead, "/gpu/nodes")
	if ctx.Err() != nil {
		return a.there
	}
	a.checked, a.there = time.Now(), err == nil && resp.StatusCode == http.StatusOK
	if err == nil {
		_ = resp.Body.Close()
	}
	return a.there
}

// order gives an order. The status is for an answer that tells of an error.
func (a *adminEndpoint) order(ctx context.Context, node, order string) (status int, _ error) {
	resp, err := a.do(ctx, http.MethodPost, "/gpu/nodes/"+url.PathEscape(node)+"/"+order)
	if err != nil {
		return http.StatusBadGateway, errors.New("the admin endpoint can't be reached")
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return 0, nil
	}
	var answer struct{ Error string }
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&answer)
	if answer.Error == "" {
		answer.Error = "the admin endpoint answered " + resp.Status
	}
	return resp.StatusCode, errors.New(answer.Error)
}
