package gpupolicy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// The hedge is sent as reverse_proxy would send it to that node, and the answer
// tells who gave it.
func TestHedgeIsOfItsOwnNode(t *testing.T) {
	hung, other := newUpstream(t), newUpstream(t)
	sent := make(chan *http.Request, 1)
	c := caddyrun.Start(t, fmt.Sprintf(`http://ADDR_GW {
	log
	log_append upstream {http.reverse_proxy.upstream.hostport}
	reverse_proxy %s %s {
		lb_policy gpu {
			tier 2 %[2]s
			eject off
		}
		lb_retries 1
		header_up Host {upstream_hostport}
		header_up X-Node {upstream_hostport}
		header_up +X-Once b
		header_down X-Upstream {rp.upstream.hostport}
	}
}`, hung.addr, other.addr))
	cl := client(t)
	for range 30 {
		if r := fetch(cl, c.URL("GW")); r.body != hung.addr {
			t.Fatalf("%+v", r)
		}
	}
	hung.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	other.answers(func(_ http.ResponseWriter, r *http.Request) { sent <- r })
	resp, err := cl.Get(c.URL("GW") + "/a%2Fb?q=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r := <-sent
	if r.Host != other.addr || r.Header.Get("X-Node") != other.addr || strings.Join(r.Header["X-Once"], "") != "b" || r.RequestURI != "/a%2Fb?q=1" {
		t.Errorf("the other node was sent %s %s %v", r.Host, r.RequestURI, r.Header)
	}
	if got := resp.Header.Get("X-Upstream"); got != other.addr {
		t.Errorf("the client is told %s", got)
	}
	eventually(t, "the log to name the node that answered", func() bool {
		return strings.Contains(c.Log(), fmt.Sprintf(`"upstream":%q`, other.addr))
	})
	eventually(t, "nothing to be in flight", func() bool { return hung.inFlight(t)+other.inFlight(t) == 0 })
}

func TestNothingIsHedgedWhereNothingIsRetried(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		want    bool
	}{
		"no retries":     {"", false},
		"lb_retries":     {"\nlb_retries 1", true},
		"try_duration":   {"\nlb_try_duration 1s", true},
		"off":            {"{\nhedge off\n}\nlb_retries 1", false},
		"proxy protocol": {"\nlb_retries 1\ntransport http {\nproxy_protocol v1\n}", false},
		"fastcgi":        {"\nlb_retries 1\ntransport fastcgi {\nroot /\n}", false},
	} {
		t.Run(name, func(t *testing.T) {
			caddyrun.Start(t, proxy(test.options, newUpstream(t), newUpstream(t)))
			theCollector.mu.Lock()
			defer theCollector.mu.Unlock()
			if got := theCollector.live[0].hedger.on; got != test.want {
				t.Errorf("hedges: %v", got)
			}
		})
	}
}

func TestOnlyBodiesInMemoryAreReplayed(t *testing.T) {
	kept := io.NopCloser(bytes.NewReader([]byte("body")))
	again, ok := replayable(kept)
	if !ok {
		t.Fatal("not replayable")
	}
	for _, r := range []io.Reader{kept, again} {
		if text, err := io.ReadAll(r); string(text) != "body" || err != nil {
			t.Errorf("%q, %v", text, err)
		}
	}
	if _, ok := replayable(io.NopCloser(strings.NewReader("body"))); ok {
		t.Error("a body of an unknown kind is replayed")
	}
	for _, none := range []io.ReadCloser{nil, http.NoBody} {
		if again, ok := replayable(none); !ok || again != nil {
			t.Errorf("no body: %v, %v", again, ok)
		}
	}
}
