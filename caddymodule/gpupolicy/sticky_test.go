package gpupolicy

import (
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// visitor is a browser in what matters here: it keeps one cookie.
type visitor struct {
	t      testing.TB
	client *http.Client
	url    string
	cookie string // "name=value"
	given  *http.Cookie
}

func newVisitor(t testing.TB, url string) *visitor {
	return &visitor{t: t, client: client(t), url: url}
}

// asks sends a request and takes the cookie it is given; the nodes of these
// tests answer with their addresses.
func (v *visitor) asks() (node string) {
	v.t.Helper()
	node, err := v.ask()
	if err != nil {
		v.t.Fatal(err)
	}
	return node
}

func (v *visitor) ask() (node string, err error) {
	req, _ := http.NewRequest(http.MethodGet, v.url, nil)
	if v.cookie != "" {
		req.Header.Set("Cookie", "a=b; "+v.cookie)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	v.given = nil
	for _, c := range resp.Cookies() {
		if c.Name != "node" {
			continue
		}
		if v.given != nil {
			err = fmt.Errorf("two cookies: %v", resp.Header["Set-Cookie"])
		}
		v.given, v.cookie = c, c.Name+"="+c.Value
	}
	return string(body), err
}

const sticky = "{\n\t\t\tsticky cookie node\n\t\t}\n"

// elsewhere is the node of two that is not this one.
func elsewhere(node string, all ...*upstream) *upstream {
	for _, u := range all {
		if u.addr != node {
			return u
		}
	}
	return nil
}

func of(addr string, all ...*upstream) *upstream {
	for _, u := range all {
		if u.addr == addr {
			return u
		}
	}
	return nil
}

func TestVisitorStaysAtOneNode(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a, b))
	seen := make(map[string]bool)
	eventually(t, "visitors at both nodes", func() bool {
		v := newVisitor(t, c.URL("GW"))
		home := v.asks()
		seen[home] = true
		if v.given == nil {
			t.Fatal("no cookie")
		}
		if g := v.given; !g.HttpOnly || g.SameSite != http.SameSiteLaxMode || g.Secure || g.Path != "/" || len(g.Value) > 64 {
			t.Errorf("cookie %v", g)
		}
		host, port, _ := strings.Cut(home, ":")
		if strings.Contains(v.given.Value, port) || strings.Contains(v.given.Value, host) {
			t.Errorf("cookie %s tells the address %s", v.given.Value, home)
		}
		for range 10 {
			if node := v.asks(); node != home || v.given != nil {
				t.Fatalf("sent from %s to %s, given %v", home, node, v.given)
			}
		}
		return len(seen) == 2
	})
	idle(t, a, b)
}

func TestPinsSurviveReloads(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a, b))
	v := newVisitor(t, c.URL("GW"))
	home := v.asks()
	for i := range 3 {
		c.Reload(proxy(sticky+fmt.Sprintf("lb_retries %d", i+1), b, a))
		var node string
		eventually(t, "an answer", func() bool { // stock Caddy resets some connections
			var err error
			node, err = v.ask()
			return err == nil
		})
		if node != home || v.given != nil {
			t.Errorf("after a reload: at %s instead of %s, given %v", node, home, v.given)
		}
	}
}

// Gateways agree on pins if they share the secret, and only then.
func TestGatewaysWithOneSecretAgree(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STICKY_TEST", "0123456789abcdef")
	with := func(name, secret string, to ...*upstream) string {
		return proxyNamed(name, "{\n\tsticky cookie node {\n\t\tsecret "+secret+"\n\t}\n}", to...)
	}
	c := caddyrun.Start(t, with("ONE", "{env.STICKY_TEST}", a, b)+with("TWO", "{file."+file+"}", b, a)+with("OTHER", "another-secret-of-24-bytes", a, b))
	for range 10 {
		v := newVisitor(t, c.URL("ONE"))
		home := v.asks()
		v.url = c.URL("TWO")
		if node := v.asks(); node != home || v.given != nil {
			t.Errorf("another gateway sends from %s to %s", home, node)
		}
		v.url = c.URL("OTHER")
		if v.asks(); v.given == nil {
			t.Error("a gateway with another secret takes the cookie")
		}
	}
}

func TestSecretsThatCannotBeUsedAreRefused(t *testing.T) {
	a := newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a))
	for _, secret := range []string{"short", "{env.NO_SUCH_VARIABLE}", "{file./no/such/file}", "{nonsense}"} {
		err := c.Load(proxy("{\n\tsticky cookie node {\n\t\tsecret "+secret+"\n\t}\n}", a))
		if err == nil || !strings.Contains(err.Error(), "sticky cookie node: secret") {
			t.Errorf("secret %s: %v", secret, err)
		}
	}
}

func TestForgedCookieIsReplaced(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a, b))
	for _, value := range []string{"x", a.addr, "", strings.Repeat("A", 22), strings.Repeat("x", 4000), `"quoted"`, ";;=,"} {
		v := newVisitor(t, c.URL("GW"))
		v.cookie = "node=" + value
		home := v.asks()
		if v.given == nil {
			t.Errorf("cookie %q is not replaced", value)
		}
		if node := v.asks(); node != home {
			t.Errorf("after cookie %q: first at %s, then at %s", value, home, node)
		}
	}
}

func TestPinBreaksWhenItsNodeDiesAndStaysBroken(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky+"lb_retries 1", a, b)+"http://ADDR_METRICS {\n\tmetrics\n}\n")
	v := newVisitor(t, c.URL("GW"))
	home := of(v.asks(), a, b)
	other := elsewhere(home.addr, a, b)
	home.kill()
	if node := v.asks(); node != other.addr || v.given == nil {
		t.Errorf("with %s dead: at %s, given %v", home.addr, node, v.given)
	}
	home.start(t)
	for range 10 {
		if node := v.asks(); node != other.addr || v.given != nil {
			t.Fatalf("pinned to %s, sent to %s, given %v", other.addr, node, v.given)
		}
	}
	text := fetch(v.client, c.URL("METRICS")).body
	for _, want := range []string{"caddy_gpu_sticky_total{outcome=\"tried\"}", "caddy_gpu_sticky_total{outcome=\"kept\"}", "caddy_gpu_picks_total{node=\"" + other.addr + "\",reason=\"sticky\"}"} {
		if !strings.Contains(text, want) || strings.Contains(text, want+" 0\n") {
			t.Errorf("no %s, or 0", want)
		}
	}
	idle(t, a, b)
}

// gradio_client takes the first cookie and no other.
func TestClientThatKeepsItsOldCookieFindsOneNode(t *testing.T) {
	all := []*upstream{newUpstream(t), newUpstream(t), newUpstream(t), newUpstream(t)}
	c := caddyrun.Start(t, proxy(sticky, all...))
	seen := make(map[string]map[string]bool)
	eventually(t, "sessions of one node to go on at several", func() bool {
		v := newVisitor(t, c.URL("GW"))
		home, old := v.asks(), v.cookie
		if _, err := Drain(home); err != nil {
			t.Fatal(err)
		}
		next := v.asks()
		for range 6 {
			v.cookie = old
			if node := v.asks(); node != next {
				t.Errorf("without %s: at %s, then at %s", home, next, node)
			}
		}
		if seen[home] == nil {
			seen[home] = make(map[string]bool)
		}
		seen[home][next] = true
		Resume(home)
		return len(seen[home]) > 1
	})
}

func TestDrainMovesVisitors(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a, b))
	v := newVisitor(t, c.URL("GW"))
	home := v.asks()
	if _, err := Drain(home); err != nil {
		t.Fatal(err)
	}
	defer Resume(home)
	if node := v.asks(); node == home || v.given == nil {
		t.Errorf("at %s, which is drained, given %v", node, v.given)
	}
}

// What a failing node answers pins nobody to it, and an answer that is tried
// elsewhere leaves no cookie behind.
func TestFailuresPinNobody(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky+"lb_retries 1\nlb_retry_match `{rp.status_code} == 503`", a, b))
	a.answers(status(500))
	b.answers(status(500))
	v := newVisitor(t, c.URL("GW"))
	if _, err := v.ask(); err == nil || v.given != nil {
		t.Errorf("an answer of 500 gave %v", v.given)
	}
	a.answers(status(503))
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "own=1")
		fmt.Fprint(w, b.addr)
	})
	v = newVisitor(t, c.URL("GW"))
	if node := v.asks(); node != b.addr || v.given == nil {
		t.Errorf("at %s, given %v", node, v.given)
	}
	if resp, err := v.client.Get(v.url); err != nil || len(resp.Header["Set-Cookie"]) != 2 {
		t.Errorf("the node's own cookie is not beside ours: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

func TestCookieIsSecureOverTLS(t *testing.T) {
	p := &Policy{Sticky: &Sticky{Cookie: &StickyCookie{Name: "node", SameSite: "none", Path: "/ui"}}}
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		secure bool
	}{
		{"plain", func(*http.Request) {}, false},
		{"TLS", func(r *http.Request) { r.TLS = new(tls.ConnectionState) }, true},
		{"TLS ended by a trusted proxy", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, true},
	} {
		r, header := httptest.NewRequest(http.MethodGet, "/", nil), make(http.Header)
		test.change(r)
		p.pinAnswer(r, &attempt{member: &member{token: "t"}, request: &request{wish: wish{number: "number"}}}, balance.Served, header)
		want := "node=tnumber; Path=/ui; HttpOnly; SameSite=None"
		if test.secure {
			want = "node=tnumber; Path=/ui; HttpOnly; Secure; SameSite=None"
		}
		if got := header.Get("Set-Cookie"); got != want {
			t.Errorf("%s: %s, want %s", test.name, got, want)
		}
		if got := header.Get("Cache-Control"); got != `no-cache="Set-Cookie"` {
			t.Errorf("%s: Cache-Control %q lets caches pin others", test.name, got)
		}
	}
}

func askWith(t testing.TB, c *http.Client, url, field, value string) string {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Header.Set(field, value)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return string(body)
}

func TestHeaderGoesToTheSameNodeAtEveryGateway(t *testing.T) {
	a, b, d := newUpstream(t), newUpstream(t), newUpstream(t)
	const options = "{\n\tsticky header X-Session\n}\nlb_retries 2"
	c := caddyrun.Start(t, proxyNamed("ONE", options, a, b, d)+proxyNamed("TWO", options, d, b, a))
	cl := client(t)
	homes := make(map[string]string)
	share := make(map[string]int)
	for i := range 60 {
		session := fmt.Sprint("session ", i)
		homes[session] = askWith(t, cl, c.URL("ONE"), "X-Session", session)
		share[homes[session]]++
		if node := askWith(t, cl, c.URL("TWO"), "X-Session", session); node != homes[session] {
			t.Errorf("%s: at %s by one gateway, at %s by the other", session, homes[session], node)
		}
	}
	for node, n := range share {
		if n < 3 {
			t.Errorf("%d of 60 sessions at %s", n, node)
		}
	}
	a.kill()
	moved := make(map[string]string)
	for session, home := range homes {
		node := askWith(t, cl, c.URL("ONE"), "X-Session", session)
		if home != a.addr && node != home {
			t.Errorf("%s moved from %s to %s because another node died", session, home, node)
		}
		moved[session] = node
	}
	for session, node := range moved {
		if again := askWith(t, cl, c.URL("TWO"), "X-Session", session); again != node {
			t.Errorf("%s: without its node at %s by one gateway, at %s by the other", session, node, again)
		}
	}
}

func TestHeaderGoesBeforeTheCookie(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy("{\n\tsticky cookie node\n\tsticky header X-Session\n}", a, b))
	v := newVisitor(t, c.URL("GW"))
	home := v.asks()
	moved := false
	for i := range 20 {
		session := fmt.Sprint(i)
		node := askWith(t, v.client, v.url, "X-Session", session)
		req, _ := http.NewRequest(http.MethodGet, v.url, nil)
		req.Header.Set("Cookie", v.cookie)
		req.Header.Set("X-Session", session)
		resp, err := v.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != node || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("at %s instead of %s, given %s", body, node, resp.Header.Get("Set-Cookie"))
		}
		moved = moved || node != home
	}
	if !moved {
		t.Error("the header moved nobody")
	}
}

func TestRendezvousFollowsWeightsAndTiers(t *testing.T) {
	s := &Sticky{Header: "X"}
	members := []*member{{dial: "a:1", weight: 1, tier: 1}, {dial: "b:1", weight: 3, tier: 1}, {dial: "c:1", weight: 100, tier: 2}}
	for _, m := range members {
		s.identify(m)
	}
	var got [3]int
	const n = 20000
	for i := range n {
		best := 0
		for j, m := range members {
			f := rendezvous(hash(fmt.Sprint(i)), m)
			if !(f > 0 && f < balance.MaxTier+1) {
				t.Fatalf("affinity %g", f)
			}
			if f > rendezvous(hash(fmt.Sprint(i)), members[best]) {
				best = j
			}
		}
		got[best]++
	}
	if math.Abs(float64(got[1])/n-0.75) > 0.02 || got[2] != 0 {
		t.Errorf("shares %v of %d for weights 1 and 3, and a backup", got, n)
	}
}

// gate lets each request through when the test says so.
func gate(u *upstream) (open func()) {
	ch := make(chan struct{})
	u.answers(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ch:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, u.addr)
	})
	return sync.OnceFunc(func() { close(ch) })
}

func TestPinnedRequestWaitsForItsNodeWithoutHoldingOthersUp(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy("{\n\tsticky cookie node\n\tmax_in_flight 1\n\tqueue 100 1h\n}", a, b))
	v := newVisitor(t, c.URL("GW"))
	home := of(v.asks(), a, b)
	other := elsewhere(home.addr, a, b)
	open := gate(home)
	defer open()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			pinned := *v
			if node, err := pinned.ask(); err != nil || node != home.addr || pinned.given != nil {
				t.Errorf("at %s instead of %s, given %v, error %v", node, home.addr, pinned.given, err)
			}
		})
	}
	eventually(t, "one to be served, the other to wait", func() bool { return home.inFlight(t) == 1 && waiting() == 1 })
	for range 3 {
		if node := newVisitor(t, c.URL("GW")).asks(); node != other.addr {
			t.Errorf("at %s, which is full", node)
		}
	}
	open()
	wg.Wait()
	idle(t, a, b)
}

func waiting() (n int) {
	queues.each(func(q *sharedQueue) { n += q.Len() })
	return n
}

func TestPinnedRequestWaitsNotForEver(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy("{\n\tsticky cookie node\n\tmax_in_flight 1\n\tqueue 100 2s\n}", a, b))
	v := newVisitor(t, c.URL("GW"))
	home := of(v.asks(), a, b)
	open := gate(home)
	defer open()
	var wg sync.WaitGroup
	wg.Go(func() {
		pinned := *v
		pinned.ask()
	})
	eventually(t, "the node to be full", func() bool { return home.inFlight(t) == 1 })
	if node := v.asks(); node == home.addr || v.given == nil {
		t.Errorf("at %s, which is full for ever, given %v", node, v.given)
	}
	open()
	wg.Wait()
	idle(t, a, b)
}

func TestVisitorsLoseNothingWhileNodesComeAndGo(t *testing.T) {
	all := []*upstream{newUpstream(t), newUpstream(t), newUpstream(t)}
	for _, u := range all {
		u.delay.Store(int64(time.Millisecond))
	}
	c := caddyrun.Start(t, proxy("{\n\tsticky cookie node\n\tmax_in_flight 2\n\tqueue 1000 1m\n}\nlb_retries 3", all...))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			v := newVisitor(t, c.URL("GW"))
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := v.ask(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for round := range 6 {
		u := all[round%len(all)]
		served := all[0].hits.Load() + all[1].hits.Load() + all[2].hits.Load()
		if round%2 == 0 {
			u.kill()
		} else if _, err := Drain(u.addr); err != nil {
			t.Error(err)
		}
		eventually(t, "others to carry on", func() bool {
			return all[0].hits.Load()+all[1].hits.Load()+all[2].hits.Load() > served+200
		})
		if round%2 == 0 {
			u.start(t)
		} else {
			Resume(u.addr)
		}
	}
	close(done)
	wg.Wait()
	if waiting() != 0 {
		t.Errorf("%d still wait", waiting())
	}
	idle(t, all...)
}
