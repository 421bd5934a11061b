package dashboard

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	_ "github.com/caddy-infer/caddy-infer/caddymodule/gpuadmin"
	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// dashboardSite runs a gateway to two nodes with a dashboard; in the options %A
// stands for the address of the admin endpoint.
func dashboardSite(t *testing.T, options string) (c *caddyrun.Instance, nodes []*httptest.Server, config string) {
	t.Helper()
	list := ""
	for range 2 {
		n := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
		t.Cleanup(n.Close)
		nodes = append(nodes, n)
		list += " " + n.Listener.Addr().String()
	}
	config = `
{
	admin ADDR_ADMIN
}
http://ADDR_SITE {
	gpu_dashboard /nodes {
		interval 100ms
		` + strings.ReplaceAll(options, "%A", "ADDR_ADMIN") + `
	}
	reverse_proxy` + list + ` {
		lb_policy gpu
	}
}`
	c = caddyrun.Start(t, config)
	t.Cleanup(func() { c.Reload("http://ADDR_SITE {\n}\n") }) // caddy.Stop leaves the admin endpoint open
	return c, nodes, config
}

func fetch(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestDashboardHasATableAndItsTwin(t *testing.T) {
	c, nodes, _ := dashboardSite(t, "")
	site := c.URL("SITE")
	for range 20 {
		fetch(t, "GET", site+"/predict", nil)
	}
	resp, page := fetch(t, "GET", site+"/nodes/", nil)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || strings.Contains(resp.Header.Get("Content-Security-Policy"), "unsafe") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, n := range nodes {
		if !strings.Contains(page, n.Listener.Addr().String()) {
			t.Errorf("the page without script lacks %s", n.Listener.Addr())
		}
	}
	for _, want := range []string{"in service", "Why requests went", "best score", "first byte"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<form") {
		t.Error("orders are offered though nobody allowed them")
	}
	if _, zh := fetch(t, "GET", site+"/nodes/", nil, "Accept-Language", "zh"); !strings.Contains(zh, "选择原因") || strings.Contains(zh, "Failed<") {
		t.Error("the page is not in Chinese")
	}

	resp, twin := fetch(t, "GET", site+"/nodes/", nil, "Accept", "application/json")
	var state struct {
		Nodes []struct {
			Address, State string
			Share          float64
			P50MS          *float64 `json:"p50_ms"`
			History        struct {
				InFlight []float64 `json:"in_flight"`
			}
		}
		Picks []gpupolicy.Pick
	}
	if err := json.Unmarshal([]byte(twin), &state); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %s", err, twin)
	}
	shares := 0.0
	for _, n := range state.Nodes {
		shares += n.Share
		if n.Share > 0 && n.P50MS == nil || n.State != "up" || len(n.History.InFlight) == 0 {
			t.Errorf("%+v", n)
		}
	}
	if len(state.Nodes) != 2 || shares < 0.99 || shares > 1.01 {
		t.Errorf("%d nodes with shares of %g in all", len(state.Nodes), shares)
	}
	if len(state.Picks) == 0 || len(state.Picks[0].Candidates) != 2 || state.Picks[len(state.Picks)-1].Node == "" {
		t.Errorf("picks %+v", state.Picks)
	}
}

// Sites on HTTP and on HTTPS are two handlers with the same nodes.
func TestDashboardExplainsThePicksOfEveryHandlerOfAPool(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(node.Close)
	c := caddyrun.Start(t, strings.ReplaceAll(`
(gateway) {
	reverse_proxy NODE {
		lb_policy gpu {
			queue 7 1s
		}
	}
}
http://ADDR_A {
	import gateway
}
http://ADDR_B {
	import gateway
}
http://ADDR_SITE {
	gpu_dashboard {
		interval 100ms
	}
}`, "NODE", node.Listener.Addr().String()))
	for _, site := range []string{"A", "B"} {
		fetch(t, "GET", c.URL(site)+"/predict", nil)
		var state dashboardState
		_, twin := fetch(t, "GET", c.URL("SITE")+"/", nil, "Accept", "application/json")
		if err := json.Unmarshal([]byte(twin), &state); err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"A": 1, "B": 2}[site]; len(state.Picks) != want || state.Picks[0].Pool != 1 {
			t.Errorf("%d picks after a request to %s, want %d, of pool 1: %+v", len(state.Picks), site, want, state.Picks)
		}
		if len(state.Pools) != 1 || state.Pools[0].Capacity != 7 {
			t.Errorf("pools %+v, want one with the queue that its handlers share", state.Pools)
		}
		time.Sleep(100 * time.Millisecond) // until the dashboard looks again
	}
}

func TestDashboardPassesOnWhatIsNotItsOwn(t *testing.T) {
	c, _, _ := dashboardSite(t, "")
	for path, want := range map[string]int{"/nodes": 308, "/nodes/": 200, "/nodes/gpu_dashboard/app.js": 200, "/nodes/other": 200, "/": 200, "/nodes/orders": 200} {
		if resp, body := fetch(t, "GET", c.URL("SITE")+path, nil); resp.StatusCode != want || path != "/nodes/" && strings.Contains(body, "<title>") {
			t.Errorf("%s: %d %.80s", path, resp.StatusCode, body)
		}
	}
	if resp, _ := fetch(t, "POST", c.URL("SITE")+"/nodes/", nil); resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// follow returns the events of the page, as they come, until its context ends.
func follow(ctx context.Context, t *testing.T, url string) (<-chan string, *http.Response) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string)
	go func() {
		defer close(events)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			var html string
			if !ok || json.Unmarshal([]byte(data), &html) != nil {
				continue
			}
			select {
			case events <- html:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, resp
}

func await(t *testing.T, events <-chan string, want string) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	last := ""
	for {
		select {
		case html, ok := <-events:
			if !ok {
				t.Fatalf("the events ended before %q", want)
			}
			if last = html; strings.Contains(html, want) {
				return
			}
		case <-timeout:
			t.Fatalf("no event has %q; the last: %s", want, last)
		}
	}
}

func TestDashboardFollowsOrdersLive(t *testing.T) {
	c, nodes, config := dashboardSite(t, "orders %A")
	site, node := c.URL("SITE"), nodes[0].Listener.Addr().String()
	fetch(t, "GET", site+"/predict", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, resp := follow(ctx, t, site+"/nodes/events")
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", resp.Header)
	}
	await(t, events, `value="drain"`)
	order := func(what string, header ...string) (int, string) {
		form := url.Values{"node": {node}, "order": {what}}.Encode()
		resp, body := fetch(t, "POST", site+"/nodes/orders", strings.NewReader(form), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)...)
		return resp.StatusCode, body
	}
	if status, _ := order("drain", "X-Requested-With", "fetch"); status != 204 {
		t.Errorf("drain: %d", status)
	}
	await(t, events, "state-drained")
	if status, _ := order("resume"); status != 303 {
		t.Errorf("resume by a form: %d", status)
	}
	await(t, events, `value="drain" aria-label="Drain `+node)
	if status, body := order("drain", "Sec-Fetch-Site", "cross-site"); status != 403 || !strings.Contains(body, "error") {
		t.Errorf("an order from another site: %d %s", status, body)
	}
	if status, _ := order("explode"); status != 400 {
		t.Errorf("an order that is none: %d", status)
	}
	node = "nowhere:1"
	if status, body := order("drain"); status != 404 || !strings.Contains(body, "nowhere:1") {
		t.Errorf("an unknown node: %d %s", status, body)
	}

	// A reload ends the stream, and the page connects again.
	c.Reload(strings.Replace(config, "100ms", "200ms", 1))
	timeout := time.After(30 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-events:
		case <-timeout:
			t.Fatal("the stream of the old configuration goes on")
		}
	}
	again, _ := follow(ctx, t, site+"/nodes/events")
	await(t, again, nodes[1].Listener.Addr().String())
	cancel()
	for range again { //nolint:revive // until it has ended
	}
}

func TestDashboardTakesNoOrdersFromNamesThatMayLeadAnywhere(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost:8080": false, "localhost": false, "127.0.0.1:8080": false, "[::1]:8080": false, "10.0.0.1": false,
		"nodes.example.com": true, "evil.test:8080": true, "localhost.evil.test": true, "": true,
	} {
		r := httptest.NewRequest("POST", "http://x/", nil)
		r.Host = host
		repl := caddy.NewReplacer()
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl))
		if got := rebindable(r); got != want {
			t.Errorf("%q over HTTP: %v", host, got)
		}
		repl.Set("http.auth.user.id", "alice")
		if rebindable(r) {
			t.Errorf("%q over HTTP, signed in: refused", host)
		}
		repl.Delete("http.auth.user.id")
		r.TLS = new(tls.ConnectionState)
		if rebindable(r) {
			t.Errorf("%q over HTTPS: refused", host)
		}
	}
	c, nodes, _ := dashboardSite(t, "orders %A")
	form := url.Values{"node": {nodes[0].Listener.Addr().String()}, "order": {"drain"}}.Encode()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", c.URL("SITE")+"/nodes/orders", strings.NewReader(form))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	recorder := httptest.NewRecorder()
	m := &GPUDashboard{Path: "/nodes/", Orders: c.Addr("ADMIN")}
	if err := m.Provision(caddy.Context{Context: t.Context()}); err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.test"
	if err := m.ServeHTTP(recorder, req, nil); err != nil || recorder.Code != 403 {
		t.Errorf("an order by a foreign name: %v %d %s", err, recorder.Code, recorder.Body)
	}
}

func TestDashboardDoesNotOfferWhatTheAdminEndpointForbids(t *testing.T) {
	c, _, _ := dashboardSite(t, "orders 127.0.0.1:1")
	if _, page := fetch(t, "GET", c.URL("SITE")+"/nodes/", nil); strings.Contains(page, "<form") {
		t.Error("orders are offered without an admin endpoint")
	}
}

func TestDashboardViewersAreBounded(t *testing.T) {
	c, _, _ := dashboardSite(t, "max_viewers 1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, _ := follow(ctx, t, c.URL("SITE")+"/nodes/events")
	<-events
	if resp, _ := fetch(t, "GET", c.URL("SITE")+"/nodes/events", nil); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("a second viewer: %d", resp.StatusCode)
	}
	cancel()
	for range events { //nolint:revive // until it has ended
	}
}

func TestDashboardIsSmallAndKeepsToItself(t *testing.T) {
	c, _, _ := dashboardSite(t, "")
	_, all := fetch(t, "GET", c.URL("SITE")+"/nodes/", nil)
	for _, asset := range dashboardAssets {
		all += string(asset.body)
	}
	if len(all) > 100_000 {
		t.Errorf("page and assets are %d bytes", len(all))
	}
	for _, url := range regexp.MustCompile(`(?:https?:)?//[\w.-]+\.\w+`).FindAllString(all, -1) {
		if url != "http://www.w3.org" { // the SVG name space, which nobody fetches
			t.Errorf("the page names another site: %s", url)
		}
	}
	for key := range dashboardStrings["en"] {
		if dashboardStrings["zh"][key] == "" {
			t.Errorf("%s has no Chinese", key)
		}
	}
}

func TestSparklinesHaveGapsWhereNothingIsKnown(t *testing.T) {
	full, half := 8.0, 4.0
	if got := spark([]*float64{&full, nil, &half, &full}); got != "M56.9,1.0M59.0,8.0L60.0,1.0" {
		t.Errorf("drawn as %q", got)
	}
	if got := spark([]*float64{nil}); got != "" {
		t.Errorf("nothing is drawn as %q", got)
	}
}
