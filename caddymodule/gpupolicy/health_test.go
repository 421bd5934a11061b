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
