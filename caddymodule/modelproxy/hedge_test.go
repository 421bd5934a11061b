package modelproxy

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// gate holds requests until it is opened or they are called off.
type gate struct {
	open      chan struct{}
	held      atomic.Int64
	calledOff atomic.Int64
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) hold(w http.ResponseWriter, r *http.Request) {
	g.held.Add(1)
	select {
	case <-g.open:
		says(200, "late")(w, r)
	case <-r.Context().Done():
		g.calledOff.Add(1)
	}
}

// hedged is a gateway whose primary has a record and whose backup is there for
// hedges alone: whatever reaches it is one.
func hedged(t *testing.T, options string) (c *caddyrun.Instance, cl *http.Client, primary, backup *node) {
	primary, backup = newNode(t), newNode(t)
	c = caddyrun.Start(t, proxy("backup "+backup.addr+"\nhealth off\neject off\n"+options, primary))
	cl = client(t)
	for i := range 30 {
		if r := send(cl, "POST", c.URL("GW"), fmt.Sprint("warm ", i)); r.status != 200 {
			t.Fatalf("%d %v", r.status, r.err)
		}
	}
	return c, cl, primary, backup
}

func metric(cl *http.Client, c *caddyrun.Instance, name string) (n int) {
	for line := range strings.Lines(send(cl, "GET", c.URL("GW")+"/metrics", "").body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}

func (n *node) idle(t *testing.T) {
	t.Helper()
	eventually(t, "nothing to be in flight", func() bool { return n.status(t).InFlight == 0 })
}

const (
	won  = `caddy_gpu_hedges_total{outcome="won"}`
	lost = `caddy_gpu_hedges_total{outcome="lost"}`
)

func TestRequestToAHungNodeIsAnsweredByAnother(t *testing.T) {
	c, cl, a, b := hedged(t, "")
	before := metric(cl, c, won)
	g := newGate()
	a.answers(g.hold)
	body := strings.Repeat("x", 1<<20)
	if r := send(cl, "POST", c.URL("GW"), body); r.status != 200 || r.body != b.addr {
		t.Fatalf("%d %.100q %v", r.status, r.body, r.err)
	}
	if a.times(body) != 1 || b.times(body) != 1 {
		t.Errorf("ran %d and %d times", a.times(body), b.times(body))
	}
	eventually(t, "the hung node's request to be called off", func() bool { return g.calledOff.Load() == 1 })
	if n := metric(cl, c, won) - before; n != 1 {
		t.Errorf("%s counts %d", won, n)
	}
	a.idle(t)
	b.idle(t)
	eventually(t, "the hung node to be avoided", func() bool { return a.status(t).State == "avoided" })
	if s := a.status(t); s.Ejections != 0 {
		t.Error("a silent node was ejected")
	}
	held := g.held.Load()
	if r := send(cl, "POST", c.URL("GW"), "next"); r.body != b.addr || g.held.Load() != held {
		t.Errorf("the next request was answered by %q, and the hung node asked %d times more", r.body, g.held.Load()-held)
	}
}

// Every one of these waits for its node, however long that takes.
func TestWhatIsNotHedged(t *testing.T) {
	big := strings.Repeat("x", 2*bodyLimit)
	for _, test := range []struct {
		name, options, method, body string
		header                      [2]string
		hedged                      bool
	}{
		{name: "POST", method: "POST", body: "1", hedged: true},
		{name: "GET", method: "GET", hedged: true},
		{name: "HEAD", method: "HEAD", hedged: true},
		{name: "no_retry", options: "no_retry", method: "POST", body: "1"},
		{name: "no_retry, GET", options: "no_retry", method: "GET"},
		{name: "hedge off", options: "hedge off", method: "POST", body: "1"},
		{name: "lb_retry_match", options: "lb_retry_match {\n\tmethod GET\n}", method: "POST", body: "1"},
		{name: "PUT", method: "PUT", body: "1"},
		{name: "DELETE", method: "DELETE"},
		{name: "event stream", method: "GET", header: [2]string{"Accept", "text/event-stream"}},
		{name: "larger than what is kept", method: "POST", body: big},
		{name: "not kept", options: "request_buffers 0", method: "POST", body: "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, cl, a, b := hedged(t, test.options)
			g := newGate()
			a.answers(g.hold)
			done := make(chan reply, 1)
			go func() {
				req, _ := http.NewRequest(test.method, c.URL("GW"), strings.NewReader(test.body))
				if test.header[0] != "" {
					req.Header.Set(test.header[0], test.header[1])
				}
				resp, err := cl.Do(req)
				if err != nil {
					done <- reply{err: err}
					return
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				done <- reply{resp.StatusCode, string(text), resp.Header, err}
			}()
			if test.hedged {
				if r := <-done; r.status != 200 || b.runs() != 1 {
					t.Errorf("%d %q %v, the other node asked %d times", r.status, r.body, r.err, b.runs())
				}
				return
			}
			eventually(t, "the node to have it", func() bool { return g.held.Load() == 1 })
			time.Sleep(500 * time.Millisecond)
			close(g.open)
			if r := <-done; r.status != 200 || r.body != "late" {
				t.Errorf("%d %q %v", r.status, r.body, r.err)
			}
			if n := b.runs(); n != 0 {
				t.Errorf("the other node was asked %d times", n)
			}
		})
	}
}

func TestHedgeWaitsForANodeThatTakesIt(t *testing.T) {
	c, cl, a, b := hedged(t, "")
	g := newGate()
	a.answers(g.hold)
	if _, err := gpupolicy.Drain(b.addr); err != nil {
		t.Fatal(err)
	}
	done := make(chan reply, 1)
	go func() { done <- send(cl, "POST", c.URL("GW"), "1") }()
	eventually(t, "the node to have it", func() bool { return g.held.Load() == 1 })
	time.Sleep(500 * time.Millisecond)
	if n := b.runs(); n != 0 {
		t.Errorf("a drained node was asked %d times", n)
	}
	if _, err := gpupolicy.Resume(b.addr); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.body != b.addr {
		t.Errorf("%d %q %v", r.status, r.body, r.err)
	}
}

func TestUpgradeIsNotHedged(t *testing.T) {
	c, _, a, b := hedged(t, "")
	g := newGate()
	a.answers(g.hold)
	conn, err := net.Dial("tcp", c.Addr("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", c.Addr("GW"))
	eventually(t, "the node to have it", func() bool { return g.held.Load() == 1 })
	time.Sleep(500 * time.Millisecond)
	if n := b.runs(); n != 0 {
		t.Errorf("the other node was asked %d times", n)
	}
}

func TestFirstAnswerWinsEvenAfterTheHedgeWasSent(t *testing.T) {
	c, cl, a, b := hedged(t, "")
	before := metric(cl, c, lost)
	ga, gb := newGate(), newGate()
	a.answers(ga.hold)
	b.answers(gb.hold)
	done := make(chan reply, 1)
	go func() { done <- send(cl, "POST", c.URL("GW"), "1") }()
	eventually(t, "the hedge to be sent", func() bool { return gb.held.Load() == 1 })
	close(ga.open)
	if r := <-done; r.status != 200 || r.body != "late" {
		t.Errorf("%d %q %v", r.status, r.body, r.err)
	}
	eventually(t, "the hedge to be called off", func() bool { return gb.calledOff.Load() == 1 })
	if n := metric(cl, c, lost) - before; n != 1 {
		t.Errorf("%s counts %d", lost, n)
	}
	a.idle(t)
	b.idle(t)
	if s := a.status(t).State; s != "up" {
		t.Errorf("the node that was slow once is %s", s)
	}
}

func TestOneHedgeIsSent(t *testing.T) {
	primary := newNode(t)
	others := []*node{newNode(t), newNode(t), newNode(t)}
	c := caddyrun.Start(t, proxy(fmt.Sprintf("backup %s %s %s\nhealth off\neject off", others[0].addr, others[1].addr, others[2].addr), primary))
	cl := client(t)
	for i := range 30 {
		send(cl, "POST", c.URL("GW"), fmt.Sprint("warm ", i))
	}
	g := newGate()
	for _, n := range append(others, primary) {
		n.answers(g.hold)
	}
	done := make(chan reply, 1)
	go func() { done <- send(cl, "POST", c.URL("GW"), "1") }()
	eventually(t, "the hedge to be sent", func() bool { return g.held.Load() == 2 })
	time.Sleep(500 * time.Millisecond)
	if n := g.held.Load(); n != 2 {
		t.Errorf("%d nodes have the request", n)
	}
	close(g.open)
	<-done
}

// A bad answer to the hedge is no answer: the first node may still have one.
func TestBadAnswerToTheHedgeDecidesNothing(t *testing.T) {
	for name, bad := range map[string]http.HandlerFunc{"503": says(503, "no"), "429": says(429, "full"), "500": says(500, "bug"), "broken": dies} {
		t.Run(name, func(t *testing.T) {
			c, cl, a, b := hedged(t, "")
			g := newGate()
			a.answers(g.hold)
			b.answers(bad)
			done := make(chan reply, 1)
			go func() { done <- send(cl, "POST", c.URL("GW"), "1") }()
			eventually(t, "the hedge to be answered", func() bool { return b.times("1") == 1 && b.status(t).InFlight == 0 })
			close(g.open)
			if r := <-done; r.status != 200 || r.body != "late" {
				t.Errorf("%d %q %v", r.status, r.body, r.err)
			}
		})
	}
}

func TestHedgeAnswersWhenTheFirstNodeDies(t *testing.T) {
	c, cl, a, b := hedged(t, "")
	ga, gb := newGate(), newGate()
	a.answers(ga.hold)
	b.answers(gb.hold)
	done := make(chan reply, 1)
	go func() { done <- send(cl, "POST", c.URL("GW"), "1") }()
	eventually(t, "the hedge to be sent", func() bool { return gb.held.Load() == 1 })
	a.kill()
	close(gb.open)
	if r := <-done; r.status != 200 || r.body != "late" || b.times("1") != 1 {
		t.Errorf("%d %q %v after %d runs", r.status, r.body, r.err, b.times("1"))
	}
	a.idle(t)
	b.idle(t)
}

func TestClientThatLeavesCallsBothOff(t *testing.T) {
	c, cl, a, b := hedged(t, "")
	g := newGate()
	a.answers(g.hold)
	b.answers(g.hold)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(ctx, "POST", c.URL("GW"), strings.NewReader("1"))
		if resp, err := cl.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "both nodes to have it", func() bool { return g.held.Load() == 2 })
	cancel()
	<-done
	eventually(t, "both to be called off", func() bool { return g.calledOff.Load() == 2 })
	a.idle(t)
	b.idle(t)
	if s := a.status(t).State; s != "up" {
		t.Errorf("the client left, and the node is %s", s)
	}
}

// Nodes hang, die and dawdle at random under load, over HTTP/1 and HTTP/2. Every
// answer is made of its own request's body, which a buffer given back too early
// would mix up.
func TestRacesMixNothingUp(t *testing.T) {
	for _, version := range []string{"1.1", "h2c"} {
		t.Run(version, func(t *testing.T) {
			nodes := []*node{newNode(t), newNode(t), newNode(t)}
			var turn atomic.Int64
			g := newGate()
			for _, n := range nodes {
				n.answers(func(w http.ResponseWriter, r *http.Request) {
					switch i := turn.Add(1); {
					case i < 100:
					case i%20 == 0:
						g.hold(w, r)
						return
					case i%20 == 7:
						time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
					case i%20 == 13:
						dies(w, r)
					}
					fmt.Fprint(w, r.Header.Get("X-Sum"))
				})
			}
			c := caddyrun.Start(t, proxy("health off\neject off\nretry_budget off\nlb_retries 5\ntransport http {\n\tversions "+version+"\n\tresponse_header_timeout 3s\n}", nodes...))
			cl := client(t)
			var wg sync.WaitGroup
			for worker := range 16 {
				wg.Go(func() {
					for i := range 25 {
						sum := fmt.Sprintf("%d.%d ", worker, i)
						req, _ := http.NewRequest("POST", c.URL("GW"), strings.NewReader(strings.Repeat(sum, 10_000)))
						req.Header.Set("X-Sum", sum)
						resp, err := cl.Do(req)
						if err != nil {
							t.Error(err)
							return
						}
						text, err := io.ReadAll(resp.Body)
						resp.Body.Close()
						if err != nil || resp.StatusCode != 200 || string(text) != strings.TrimSpace(sum) {
							t.Errorf("%q is answered %d %.50q %v", sum, resp.StatusCode, text, err)
						}
					}
				})
			}
			wg.Wait()
			for _, n := range nodes {
				n.idle(t)
				n.mu.Lock()
				for body := range n.ran {
					sum, _, _ := strings.Cut(body, " ")
					if body != strings.Repeat(sum+" ", 10_000) {
						t.Errorf("a node got a mixed body of %d bytes that begins with %.40q", len(body), body)
					}
				}
				n.mu.Unlock()
			}
			if metric(cl, c, won) == 0 {
				t.Error("no hedge won: this shows nothing")
			}
		})
	}
}

func TestReloadsUnderHedgesLeaveNothingBehind(t *testing.T) {
	a, b := newNode(t), newNode(t)
	// A request that ends after its configuration leaves an idle connection
	// behind for as long as this says.
	config := proxy("backup "+b.addr+"\nhealth off\neject off\nretry_budget off\ntransport http {\n\tkeepalive 200ms\n}", a)
	c := caddyrun.Start(t, config)
	g := newGate()
	var hang atomic.Bool
	a.answers(func(w http.ResponseWriter, r *http.Request) {
		if hang.Load() && r.Header.Get("X-Hang") != "" {
			g.hold(w, r)
		}
	})
	round := func() {
		cl := client(t)
		defer cl.CloseIdleConnections()
		for i := range 15 {
			send(cl, "POST", c.URL("GW"), fmt.Sprint(i))
		}
		hang.Store(true)
		done := make(chan reply, 1)
		go func() {
			req, _ := http.NewRequest("POST", c.URL("GW"), strings.NewReader("hung"))
			req.Header.Set("X-Hang", "1")
			resp, err := cl.Do(req)
			if err != nil {
				done <- reply{err: err}
				return
			}
			defer resp.Body.Close()
			done <- reply{status: resp.StatusCode}
		}()
		c.Reload(config)
		if r := <-done; r.err == nil && r.status != 200 {
			t.Errorf("a hung request is answered %d", r.status)
		}
	}
	round()
	before := runtime.NumGoroutine()
	for range 100 {
		round()
	}
	if metric(client(t), c, won) == 0 {
		t.Error("no hedge won: this shows nothing")
	}
	eventually(t, fmt.Sprintf("goroutines to return to about %d", before), func() bool {
		return runtime.NumGoroutine() < before+15
	})
	a.idle(t)
	b.idle(t)
}
