package gpupolicy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func status(code int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, http.StatusText(code))
	}
}

func (u *upstream) state(t testing.TB) balance.State {
	return u.node(t).State(clock(), balance.DefaultSlowStart)
}

func TestFailingNodeIsEjectedAndBusyOneIsNot(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   balance.State
	}{
		{"500", status(500), balance.Ejected},
		{"502", status(502), balance.Ejected},
		{"503", status(503), balance.Ejected},
		{"503 with Retry-After", status(503, "Retry-After", "1"), balance.Up},
		{"504", status(504), balance.Ejected},
		{"429", status(429), balance.Up},
		{"501", status(501), balance.Up},
		{"404", status(404), balance.Up},
		{"dropped connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, balance.Ejected},
		{"dropped answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, balance.Ejected},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUpstream(t)
			u.answers(test.answer)
			c := caddyrun.Start(t, proxy("", u))
			for range 5 {
				fetch(client(t), c.URL("GW"))
			}
			if got := u.state(t); got != test.want {
				t.Errorf("after 5 answers the node is %v, want %v", got, test.want)
			}
			// The only node is tried even when it is ejected.
			u.answers(status(200))
			if r := fetch(client(t), c.URL("GW")); r.status != 200 {
				t.Errorf("the node is back, yet the client got %+v", r)
			}
			if test.want == balance.Ejected {
				if got := u.state(t); got != balance.SlowStart {
					t.Errorf("after a good answer the node is %v", got)
				}
			}
		})
	}
}

func TestNodeThatFailsFastDrawsNoTraffic(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	good.delay.Store(int64(5 * time.Millisecond))
	bad.answers(status(500))
	c := caddyrun.Start(t, proxy(ejectAtOnce, good, bad))
	stop := load(client(t), c.URL("GW"), 8)
	eventually(t, "500 requests", func() bool { return good.hits.Load() > 500 })
	failed := stop()
	if len(failed) > 16 || bad.hits.Load() > 16 {
		t.Errorf("%d failures, %d requests to the failing node", len(failed), bad.hits.Load())
	}
}

func TestRetryGoesToAnotherNode(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(503))
	// The failing node is never ejected here and would win by its idleness.
	c := caddyrun.Start(t, fmt.Sprintf(`http://ADDR_GW {
	reverse_proxy %s %s {
		lb_policy gpu {
			eject off
			weight %s 1000
		}
		lb_retries 1
		lb_retry_match `+"`{rp.status_code} == 503`"+`
	}
}`, good.addr, bad.addr, bad.addr))
	for range 50 {
		if r := fetch(client(t), c.URL("GW")); r.status != 200 {
			t.Fatalf("%+v with one retry and one good node of two", r)
		}
	}
	if bad.hits.Load() == 0 {
		t.Error("the failing node was never tried: this shows nothing")
	}
	idle(t, good, bad)
}

// With request_buffers, Caddy can send a body again; the observer must not
// stand in the way.
func TestPostIsRepeatedElsewhereWithItsBody(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	var died atomic.Bool
	echoOrDie := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if died.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler) // after reading it all
		}
		w.Write(body)
	}
	a.answers(echoOrDie)
	b.answers(echoOrDie)
	c := caddyrun.Start(t, proxy(`
lb_retries 2
lb_retry_match {
	method POST
}
request_buffers 1MiB`, a, b))
	text := strings.Repeat("马云在杭州", 1000)
	for range 3 {
		died.Store(false)
		resp, err := client(t).Post(c.URL("GW"), "text/plain", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(body) != text {
			t.Fatalf("status %d, %d bytes of %d, %v", resp.StatusCode, len(body), len(text), err)
		}
	}
	idle(t, a, b)
}

// Sticky policies take another as their fallback.
func TestPolicyWorksAsAFallback(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, fmt.Sprintf(`http://ADDR_GW {
	reverse_proxy %s %s {
		lb_policy cookie node {
			fallback gpu
		}
	}
}`, a.addr, b.addr))
	for range 10 {
		if r := fetch(client(t), c.URL("GW")); r.status != 200 {
			t.Fatalf("%+v", r)
		}
	}
	idle(t, a, b)
	if picks := a.node(t).Picks(balance.Best) + b.node(t).Picks(balance.Best); picks != 10 {
		t.Errorf("%d picks for 10 requests without a cookie", picks)
	}
}

func TestHealthChecksAreHonouredButAreNoExperience(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	sick := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(500)
		}
	}
	a.answers(sick)
	c := caddyrun.Start(t, proxy("\nhealth_uri /health\nhealth_interval 20ms", a, b))
	eventually(t, "the health check to fail", func() bool { return a.hits.Load() > 2 })
	hits := a.hits.Load()
	for range 20 {
		if r := fetch(client(t), c.URL("GW")+"/x"); r.body != b.addr {
			t.Fatalf("%+v, want the healthy node", r)
		}
	}
	if n := a.node(t); n.Picks(balance.Best) != 0 || n.InFlight() != 0 || n.Ejections() != 0 {
		t.Errorf("health checks were taken for requests: %d picks, %d ejections", n.Picks(balance.Best), n.Ejections())
	}
	if _, known := a.node(t).Latency(); known {
		t.Error("a health check's latency was learned")
	}
	eventually(t, "more checks", func() bool { return a.hits.Load() > hits })

	b.answers(sick)
	eventually(t, "both nodes to be down and one to be tried anyway", func() bool {
		fetch(client(t), c.URL("GW")+"/x")
		return a.node(t).Picks(balance.Panic)+b.node(t).Picks(balance.Panic) > 0
	})
	if r := fetch(client(t), c.URL("GW")+"/x"); r.status != 200 {
		t.Errorf("%+v though both nodes answer requests", r)
	}
}

func TestFullNodesAreNotOverfilled(t *testing.T) {
	u := newUpstream(t)
	release := make(chan struct{})
	u.answers(func(http.ResponseWriter, *http.Request) { <-release })
	c := caddyrun.Start(t, proxy("\nunhealthy_request_count 1", u))
	done := make(chan reply)
	go func() { done <- fetch(client(t), c.URL("GW")) }()
	eventually(t, "the first request to arrive", func() bool { return u.hits.Load() == 1 })
	if r := fetch(client(t), c.URL("GW")); r.status != 503 {
		t.Errorf("%+v beyond the limit of requests", r)
	}
	close(release)
	if r := <-done; r.status != 200 {
		t.Errorf("%+v", r)
	}
}

func TestExplicitTransportIsObservedToo(t *testing.T) {
	u := newUpstream(t)
	u.delay.Store(int64(time.Minute))
	c := caddyrun.Start(t, proxy("\ntransport http {\nresponse_header_timeout 20ms\n}", u))
	for range 5 {
		if r := fetch(client(t), c.URL("GW")); r.status != 504 {
			t.Fatalf("%+v, want the timeout of the configured transport", r)
		}
	}
	if got := u.state(t); got != balance.Ejected {
		t.Errorf("after 5 timeouts the node is %v", got)
	}
	if l, _ := u.node(t).Latency(); l < 4*time.Second {
		t.Errorf("after 5 timeouts the node is taken for %v slow", l)
	}
}

func TestReloadRemembersEjections(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(500))
	config := proxy(ejectAtOnce, good, bad)
	c := caddyrun.Start(t, config)
	cl := client(t)
	eventually(t, "the failing node to be ejected", func() bool {
		fetch(cl, c.URL("GW"))
		return bad.state(t) == balance.Ejected
	})
	hits := bad.hits.Load()
	for range 3 {
		c.Reload(config)
	}
	for range 50 {
		if r := fetch(cl, c.URL("GW")); r.err == nil && r.status != 200 {
			t.Fatalf("%+v: the reload forgot the ejection", r)
		}
	}
	if bad.hits.Load() != hits {
		t.Errorf("%d requests to the ejected node", bad.hits.Load()-hits)
	}
}

func TestNodeIsForgottenWithItsLastHandler(t *testing.T) {
	u := newUpstream(t)
	c := caddyrun.Start(t, proxy("", u))
	fetch(client(t), c.URL("GW"))
	c.Reload("http://ADDR_GW {\n\trespond ok\n}")
	n, created := nodes.Acquire(clock(), u.addr)
	nodes.Release(clock(), n, 0)
	if !created {
		t.Error("the node is still in the pool")
	}
}

func TestHandlersShareTheirNodes(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(500))
	one := proxy(ejectAtOnce, good, bad)
	c := caddyrun.Start(t, one+strings.Replace(one, "ADDR_GW", "ADDR_OTHER", 1))
	cl := client(t)
	eventually(t, "the failing node to be ejected", func() bool {
		fetch(cl, c.URL("GW"))
		return bad.state(t) == balance.Ejected
	})
	hits := bad.hits.Load()
	for range 50 {
		if r := fetch(cl, c.URL("OTHER")); r.status != 200 {
			t.Fatalf("%+v from the handler that had not met the failing node", r)
		}
	}
	if bad.hits.Load() != hits {
		t.Errorf("%d requests to the ejected node", bad.hits.Load()-hits)
	}
}

func TestDynamicUpstreamsAreLearnedAndSurviveAReload(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(500))
	setSource(good.addr, bad.addr)
	config := "http://ADDR_GW {\n\treverse_proxy {\n\t\tdynamic test\n\t\tlb_policy gpu " + ejectAtOnce + "\t}\n}"
	c := caddyrun.Start(t, config)
	cl := client(t)
	eventually(t, "the failing node to be ejected", func() bool {
		fetch(cl, c.URL("GW"))
		return bad.state(t) == balance.Ejected
	})
	c.Reload(config)
	for range 50 {
		if r := fetch(cl, c.URL("GW")); r.err == nil && r.status != 200 {
			t.Fatalf("%+v: the reload forgot the ejection", r)
		}
	}
	idle(t, good, bad)
	third := newUpstream(t)
	setSource(good.addr, third.addr)
	good.delay.Store(int64(5 * time.Millisecond)) // so that requests pile up
	stop := load(cl, c.URL("GW"), 32)
	eventually(t, "the node found later to be asked", func() bool { return third.hits.Load() > 0 })
	stop()
	if got := third.state(t); got != balance.SlowStart {
		t.Errorf("a node that joins others at work is %v", got)
	}
}
