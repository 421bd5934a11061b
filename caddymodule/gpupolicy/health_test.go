package gpupolicy

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// Checks tell the transport where to dial by a key that reverse_proxy does not
// export.
func TestHealthRequestsTellTheTransportWhereToDial(t *testing.T) {
	h := &Health{Headers: http.Header{"Host": {"model.internal"}, "X-Key": {"1"}}}
	info := reverseproxy.DialInfo{Network: "tcp", Address: "10.0.0.1:8081"}
	r, err := h.request(t.Context(), info, url.URL{Scheme: "https", Host: "10.0.0.1:8081", Path: "/health"})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := reverseproxy.GetDialInfo(r.Context()); !ok || got.Address != info.Address {
		t.Errorf("%+v", got)
	}
	if r.Host != "model.internal" || r.Header.Get("X-Key") != "1" || r.URL.String() != "https://10.0.0.1:8081/health" {
		t.Errorf("%s %s %v", r.Host, r.URL, r.Header)
	}
}

// Over TLS a check that did not use the handler's transport would not trust the
// node, or ask it in plain HTTP.
func TestHealthChecksUseTheHandlersTransport(t *testing.T) {
	var checks atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			checks.Add(1)
		}
	}))
	defer s.Close()
	addr := s.Listener.Addr().String()
	caddyrun.Start(t, `http://ADDR_GW {
	reverse_proxy https://`+addr+` {
		lb_policy gpu {
			health /health {
				interval 100ms
				rise 1
				start down
			}
		}
		transport http {
			tls_insecure_skip_verify
		}
	}
}`)
	if s, err := Node(addr); err != nil || checks.Load() == 0 && s.State != "down" {
		t.Errorf("%v before the first check: %v", s.State, err)
	}
	eventually(t, "the node to be up", func() bool {
		s, err := Node(addr)
		return err == nil && s.State == "slow_start"
	})
}

// A node that comes back has been ejected by its answers and down by its health
// checks, and is spared for both. It is up again once.
func TestSlowStartEndsOnce(t *testing.T) {
	u := newUpstream(t)
	u.answers(status(200))
	c := caddyrun.Start(t, "{\n\tevents {\n\t\ton gpu.node_state test_record\n\t}\n}\n"+proxy(`{
			eject 1 failures
			health /health {
				interval 100ms
				rise 1
				fall 1
			}
		}`, u))
	cl := client(t)
	for range 20 { // it must be known how long answers take
		fetch(cl, c.URL("GW"))
	}
	u.answers(status(503))
	fetch(cl, c.URL("GW"))
	eventually(t, "the node to be down", func() bool { s, _ := Node(u.addr); return s.State == "down" })
	u.answers(status(200))
	eventually(t, "the node to be no longer down", func() bool { s, _ := Node(u.addr); return s.State != "down" })
	eventually(t, "the node to be up", func() bool {
		fetch(cl, c.URL("GW"))
		s, _ := Node(u.addr)
		return s.State == "up"
	})
	fetch(cl, c.URL("GW"))
	var ends int
	eventually(t, "the event", func() bool {
		ends = 0
		for _, e := range recordedEvents(t) {
			if e["node"] == u.addr && e["old"] == "slow_start" && e["new"] == "up" {
				ends++
			}
		}
		return ends > 0
	})
	if ends != 1 {
		t.Errorf("%d events tell of the end of the slow start", ends)
	}
}

func TestBadHealthSettingsAreErrors(t *testing.T) {
	for name, h := range map[string]Health{
		"no path":     {URI: "health"},
		"an address":  {URI: "http://10.0.0.1/health"},
		"a host":      {URI: "//10.0.0.1/health"},
		"too often":   {URI: "/", Interval: caddy.Duration(time.Millisecond)},
		"too long":    {URI: "/", Timeout: caddy.Duration(2 * time.Hour)},
		"no rise":     {URI: "/", Rise: -1},
		"endless row": {URI: "/", Fall: 1e6},
		"no status":   {URI: "/", Status: []int{77}},
		"no regexp":   {URI: "/", Body: "("},
		"no start":    {URI: "/", Start: "maybe"},
		"no key":      {URI: "/", JSONValue: "yes"},
	} {
		if err := h.provision(caddy.NewReplacer()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
