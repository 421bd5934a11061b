package modelproxy

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

const quickHealth = "health /health {\n\tinterval 100ms\n\ttimeout 300ms\n\trise 2\n\tfall 3\n}"

func TestNodeFallsByFailuresInARowAndRises(t *testing.T) {
	a, b := newNode(t), newNode(t)
	var checks atomic.Int64
	// Two failures, then a success, for ever: never three in a row.
	a.healthy(func(w http.ResponseWriter, _ *http.Request) {
		if checks.Add(1)%3 != 0 {
			w.WriteHeader(500)
		}
	})
	c := caddyrun.Start(t, proxy(quickHealth, a, b))
	eventually(t, "15 checks", func() bool { return checks.Load() >= 15 })
	if s := a.status(t); s.State != "up" {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	a.healthy(says(500, ""))
	eventually(t, "the node to fall", func() bool { return a.status(t).State == "down" })
	if want, got := "health check: status 500, 3 times in a row", a.status(t).Reason; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	cl := client(t)
	for i := range 30 {
		if r := send(cl, "POST", c.URL("GW"), fmt.Sprint(i)); r.body != b.addr {
			t.Errorf("%d %q", r.status, r.body)
		}
	}
	// A reload forgets nothing.
	c.Reload(proxy(quickHealth+"\nspill 150%", a, b))
	// Connections to the old server may still end while they are used.
	cl.CloseIdleConnections()
	if s := a.status(t); s.State != "down" {
		t.Errorf("after a reload: %s", s.State)
	}
	for i := range 30 {
		if r := send(cl, "POST", c.URL("GW"), fmt.Sprint(i)); r.err == nil && r.body != b.addr {
			t.Errorf("after a reload: %d %q", r.status, r.body)
		}
	}
	a.healthy(says(200, ""))
	eventually(t, "the node to rise", func() bool { return a.status(t).State == "slow_start" })
	if got := a.status(t).Reason; got != "health check: passed, 2 times in a row" {
		t.Errorf("reason %q", got)
	}
}

// A server of one worker can't answer a check while it works, and a busy one
// says so: both live.
func TestBusyNodeIsNotFoundDead(t *testing.T) {
	a := newNode(t)
	a.healthy(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := caddyrun.Start(t, proxy(quickHealth, a))
	cl := client(t)
	fallen := ""
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		send(cl, "POST", c.URL("GW"), "x")
		if s := a.status(t); s.State == "down" {
			fallen = s.Reason
		}
	}
	if fallen != "" {
		t.Errorf("fell though it answers: %s", fallen)
	}
	// Without requests nothing proves that it lives.
	eventually(t, "the node to fall", func() bool { return a.status(t).State == "down" })
	if got := a.status(t).Reason; !strings.Contains(got, "health check: no answer within 300ms") {
		t.Errorf("reason %q", got)
	}
}

func TestHealthOfDynamicUpstreamsSurvivesAReload(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.healthy(says(200, `{"overall_healthy":false}`))
	b.healthy(says(200, `{"overall_healthy":true}`))
	host, portA, _ := strings.Cut(a.addr, ":")
	_, portB, _ := strings.Cut(b.addr, ":")
	dynamic := func(more string) string {
		return proxy(fmt.Sprintf("dynamic multi {\n\ta %s %s\n\ta %s %s\n}\nhealth /health {\n\tinterval 100ms\n\tjson overall_healthy\n}\n%s",
			host, portA, host, portB, more))
	}
	c := caddyrun.Start(t, dynamic(""))
	cl := client(t)
	if r := send(cl, "POST", c.URL("GW"), "1"); r.status != 200 {
		t.Fatalf("%d %q", r.status, r.body)
	}
	eventually(t, "the node to fall", func() bool { return a.status(t).State == "down" })
	if got := a.status(t).Reason; !strings.Contains(got, `overall_healthy is "false"`) {
		t.Errorf("reason %q", got)
	}
	c.Reload(dynamic("spill 150%"))
	// Connections to the old server may still end while they are used.
	cl.CloseIdleConnections()
	for i := range 20 {
		if r := send(cl, "POST", c.URL("GW"), fmt.Sprint(i)); r.err == nil && r.body != b.addr {
			t.Errorf("after a reload: %d %q", r.status, r.body)
		}
	}
}

func TestStartDownWaitsForTheFirstChecks(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.healthy(says(503, ""))
	c := caddyrun.Start(t, proxy("health /health {\n\tinterval 100ms\n\tstart down\n}", a, b))
	eventually(t, "the healthy one to rise", func() bool { s := b.status(t).State; return s == "up" || s == "slow_start" })
	for i := range 20 {
		if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)); r.body != b.addr {
			t.Errorf("%d %q", r.status, r.body)
		}
	}
}

// Two handlers and two configurations ask once.
func TestOneCheckForAllWhoAsk(t *testing.T) {
	a := newNode(t)
	var checks atomic.Int64
	a.healthy(func(http.ResponseWriter, *http.Request) { checks.Add(1) })
	text := proxy(quickHealth, a) + strings.ReplaceAll(proxyOnly(quickHealth, a), "ADDR_GW", "ADDR_TWO")
	caddyrun.Start(t, text)
	before, began := checks.Load(), time.Now()
	eventually(t, "10 checks", func() bool { return checks.Load() >= before+10 })
	if took := time.Since(began); took < 700*time.Millisecond {
		t.Errorf("10 checks within %v: more than one each 100 ms", took)
	}
}

func proxyOnly(options string, to ...*node) string {
	_, site, _ := strings.Cut(proxy(options, to...), "\n}\n")
	return site
}
