package modelproxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

const sentence = `{"text":"马云在杭州阿里巴巴总部发表演讲。"}`

func fellBack(r reply) bool {
	return r.status == 200 && r.header.Get(FallbackHeader) == "ner" && strings.Contains(r.body, "马云")
}

func TestFallbackAnswersWhenNoNodeIsLeftAndStopsWhenOneIsBack(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off\neject off", a, b))
	cl := client(t)
	if r := send(cl, "POST", c.URL("GW"), sentence); r.status != 200 || r.header.Get(FallbackHeader) != "" {
		t.Fatalf("with both nodes: %d %q %v", r.status, r.body, r.header)
	}
	before := fallbackCount(cl, c)
	a.kill()
	b.answers(dies) // it has read the body by then
	for range 5 {
		if r := send(cl, "POST", c.URL("GW"), sentence); !fellBack(r) {
			t.Fatalf("without nodes: %d %q %v", r.status, r.body, r.header)
		}
	}
	if n := fallbackCount(cl, c) - before; n != 5 {
		t.Errorf("caddy_gpu_fallback_total counts %v of 5", n)
	}
	if r := send(cl, "GET", c.URL("GW")+"/page", ""); r.status != 502 || r.header.Get(FallbackHeader) != "" {
		t.Errorf("a page, which the model has not: %d", r.status)
	}
	if r := send(cl, "GET", c.URL("GW")+"/health", ""); r.status != 200 {
		t.Errorf("health: %d %q", r.status, r.body)
	}
	a.start(t)
	eventually(t, "the node to answer again", func() bool {
		r := send(cl, "POST", c.URL("GW"), sentence)
		if r.status != 200 {
			t.Errorf("%d %q", r.status, r.body)
		}
		return r.header.Get(FallbackHeader) == ""
	})
	for _, line := range []string{"no node is left", "a node answers again"} {
		if n := strings.Count(c.Log(), line); n != 1 {
			t.Errorf("the log says %d times %q, want once", n, line)
		}
	}
	if strings.Contains(c.Log(), "马云") {
		t.Error("the log has the text")
	}
}

func fallbackCount(cl *http.Client, c *caddyrun.Instance) (n float64) {
	for line := range strings.Lines(send(cl, "GET", c.URL("GW")+"/metrics", "").body) {
		if rest, ok := strings.CutPrefix(line, `caddy_gpu_fallback_total{model="ner"} `); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}

func TestFallbackAnswersWhenEveryNodeFailsOrIsDrained(t *testing.T) {
	for _, status := range []int{502, 503, 504} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			a, b := newNode(t), newNode(t)
			a.answers(says(status, "gone"))
			b.answers(says(status, "gone"))
			c := caddyrun.Start(t, proxy("fallback ner\nhealth off\neject off", a, b))
			if r := send(client(t), "POST", c.URL("GW"), sentence); !fellBack(r) {
				t.Errorf("%d %q", r.status, r.body)
			}
			if a.runs() != 1 || b.runs() != 1 {
				t.Errorf("asked %d and %d times", a.runs(), b.runs())
			}
		})
	}
	t.Run("drained", func(t *testing.T) {
		a := newNode(t)
		c := caddyrun.Start(t, proxy("fallback ner\nhealth off", a))
		if _, err := gpupolicy.Drain(a.addr); err != nil {
			t.Fatal(err)
		}
		defer gpupolicy.Resume(a.addr)
		if r := send(client(t), "POST", c.URL("GW"), sentence); !fellBack(r) || a.runs() != 0 {
			t.Errorf("%d %q", r.status, r.body)
		}
	})
}

func TestBusyNodesAreNotLost(t *testing.T) {
	a, b := newNode(t), newNode(t)
	for _, n := range []*node{a, b} {
		n.answers(says(503, "full", "Retry-After", "3"))
	}
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off", a, b))
	if r := send(client(t), "POST", c.URL("GW"), sentence); r.status != 503 || r.header.Get("Retry-After") != "3" || r.body != "full" {
		t.Errorf("%d %q %v", r.status, r.body, r.header)
	}
}

func TestFullNodesAreNotLost(t *testing.T) {
	a := newNode(t)
	enter, leave := make(chan bool), make(chan bool)
	a.answers(func(http.ResponseWriter, *http.Request) { enter <- true; <-leave })
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off\nunhealthy_request_count 1", a))
	done := make(chan reply)
	go func() { done <- send(client(t), "POST", c.URL("GW"), "1") }()
	<-enter
	if r := send(client(t), "POST", c.URL("GW"), sentence); r.status != 503 {
		t.Errorf("%d %q", r.status, r.body)
	}
	leave <- true
	if r := <-done; r.status != 200 {
		t.Errorf("%d", r.status)
	}
}

// A request that may have run must not run again here.
func TestFallbackWithNoRetryTakesOnlyWhatNoNodeGot(t *testing.T) {
	a := newNode(t)
	a.answers(dies)
	c := caddyrun.Start(t, proxy("fallback ner\nno_retry\nhealth off\neject off", a))
	if r := send(client(t), "POST", c.URL("GW"), sentence); r.status != 502 || a.runs() != 1 {
		t.Errorf("%d after %d runs", r.status, a.runs())
	}
	a.kill()
	if r := send(client(t), "POST", c.URL("GW"), sentence); !fellBack(r) {
		t.Errorf("%d %q", r.status, r.body)
	}
}

func TestClientThatLeavesCallsNoFallback(t *testing.T) {
	a := newNode(t)
	a.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off", a))
	cl := client(t)
	before := fallbackCount(cl, c)
	impatient := &http.Client{Timeout: 100 * time.Millisecond, Transport: cl.Transport}
	send(impatient, "POST", c.URL("GW"), sentence)
	eventually(t, "the request to end", func() bool { return a.status(t).InFlight == 0 })
	if n := fallbackCount(cl, c); n != before {
		t.Errorf("the fallback was called")
	}
}

func TestUnknownFallbackIsAnError(t *testing.T) {
	a := newNode(t)
	c := caddyrun.Start(t, proxy("", a))
	err := c.Load(proxy("fallback nre", a))
	if err == nil || !strings.Contains(err.Error(), `unknown model "nre"`) {
		t.Errorf("%v", err)
	}
}

// What the transport read, and what it left, make up the whole body; a longer
// one than is kept gets the error.
func TestFallbackWithoutRequestBuffers(t *testing.T) {
	a := newNode(t)
	a.answers(dies)
	c := caddyrun.Start(t, proxy("fallback ner\nhealth off\neject off\nrequest_buffers 0", a))
	cl := client(t)
	answered := 0
	for range 10 { // the transport may be reading still
		if r := send(cl, "POST", c.URL("GW"), sentence); fellBack(r) {
			answered++
		} else if r.status != 502 {
			t.Errorf("%d %q", r.status, r.body)
		}
	}
	if answered == 0 {
		t.Error("never answered")
	}
	a.kill()
	if r := send(cl, "POST", c.URL("GW"), sentence); !fellBack(r) {
		t.Errorf("%d %q", r.status, r.body)
	}
	if r := send(cl, "POST", c.URL("GW"), strings.Repeat(" ", bodyLimit+1)); r.status != 413 && r.status != 502 {
		t.Errorf("too long: %d %q", r.status, r.body)
	}
}
