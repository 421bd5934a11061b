package gpupolicy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// idle waits until no request is in flight at any of the nodes.
func idle(t *testing.T, all ...*upstream) {
	t.Helper()
	eventually(t, "in flight to return to zero", func() bool {
		for _, u := range all {
			if u.inFlight(t) != 0 {
				return false
			}
		}
		return true
	})
}

// node is the balance core's view of an upstream.
func (u *upstream) node(t testing.TB) *balance.Node {
	n, created := nodes.Acquire(clock(), u.addr)
	nodes.Release(clock(), n, 0)
	if created {
		t.Fatalf("no handler uses %s", u.addr)
	}
	return n
}

func TestClientsThatLeaveAreNobodysFault(t *testing.T) {
	u := newUpstream(t)
	u.delay.Store(int64(time.Minute))
	c := caddyrun.Start(t, proxy("", u))
	cl := client(t)
	for range 30 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		req, _ := http.NewRequestWithContext(ctx, "GET", c.URL("GW"), nil)
		if resp, err := cl.Do(req); err == nil {
			resp.Body.Close()
			t.Fatal("answered")
		}
		cancel()
	}
	idle(t, u)
	if s := u.node(t).State(clock(), balance.DefaultSlowStart); s != balance.Up {
		t.Errorf("30 clients left, and the node is %v", s)
	}
}

func TestStreamCountsUntilItEnds(t *testing.T) {
	u := newUpstream(t)
	release := make(chan struct{})
	u.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: one\n\n")
		w.(http.Flusher).Flush()
		<-release
		fmt.Fprint(w, "data: two\n\n")
	})
	c := caddyrun.Start(t, proxy("", u))
	resp, err := client(t).Get(c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "data: one\n" {
		t.Fatalf("first event %q, %v: must arrive before the stream ends", line, err)
	}
	if n := u.inFlight(t); n != 1 {
		t.Errorf("%d in flight during the stream", n)
	}
	if _, known := u.node(t).Latency(); !known {
		t.Error("the first byte was not noticed before the stream's end")
	}
	close(release)
	if rest, err := io.ReadAll(body); err != nil || !strings.Contains(string(rest), "data: two") {
		t.Errorf("rest %q, %v", rest, err)
	}
	idle(t, u)
}

func TestUpgradedConnectionPassesBothWaysAndCounts(t *testing.T) {
	u := newUpstream(t)
	u.answers(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw) // until the client closes its half
		io.WriteString(conn, "bye")
	})
	c := caddyrun.Start(t, proxy("", u))
	conn, err := net.Dial("tcp", c.Addr("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", c.Addr("GW"))
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", resp, err)
	}
	fmt.Fprint(conn, "hello")
	echo := make([]byte, 5)
	if _, err := io.ReadFull(in, echo); err != nil || string(echo) != "hello" {
		t.Fatalf("echo %q, %v", echo, err)
	}
	if n := u.inFlight(t); n != 1 {
		t.Errorf("%d in flight while the tunnel is open", n)
	}
	conn.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(in); err != nil || string(rest) != "bye" {
		t.Errorf("after closing one half: %q, %v; the other must stay open", rest, err)
	}
	idle(t, u)
	if s := u.node(t).State(clock(), balance.DefaultSlowStart); s != balance.Up {
		t.Errorf("the node is %v", s)
	}
}

func TestPanicWhileAnsweringLosesNoCount(t *testing.T) {
	u := newUpstream(t)
	c := caddyrun.Start(t, strings.Replace(proxy("", u), "\treverse_proxy", "\ttest_panic_writer\n\treverse_proxy", 1))
	for range 5 {
		if r := fetch(client(t), c.URL("GW")); r.err == nil && r.body != "" {
			t.Fatalf("got %+v through a writer that panics", r)
		}
	}
	if u.hits.Load() != 5 {
		t.Errorf("%d of 5 requests came through", u.hits.Load())
	}
	idle(t, u)
}

// Caddy can fail between the pick and the round trip.
func TestPickWithoutRoundTripIsGivenBack(t *testing.T) {
	c := caddyrun.Start(t, `http://ADDR_GW {
	reverse_proxy {http.request.header.X-Node} {
		lb_policy gpu
	}
}`)
	req, _ := http.NewRequest("GET", c.URL("GW"), nil)
	req.Header.Set("X-Node", "a:1-9") // a range is no address
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode < 500 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	idle(t, &upstream{addr: "{http.request.header.X-Node}"})
}

func TestSlowUploadIsNotTheNodesSlowness(t *testing.T) {
	u := newUpstream(t)
	u.answers(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, "ok")
	})
	c := caddyrun.Start(t, proxy("", u))
	body, pipe := io.Pipe()
	go func() {
		for range 4 {
			time.Sleep(100 * time.Millisecond)
			fmt.Fprint(pipe, "chunk")
		}
		pipe.Close()
	}()
	resp, err := client(t).Post(c.URL("GW"), "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if l, known := u.node(t).Latency(); !known || l > 300*time.Millisecond {
		t.Errorf("the node is taken for %v slow after a client took 400 ms to upload", l)
	}
	idle(t, u)
}

func TestReloadsLeaveNothingBehind(t *testing.T) {
	u := newUpstream(t)
	config := proxy("", u)
	c := caddyrun.Start(t, config)
	round := func() {
		cl := client(t)
		// A connection may end up at the listener that the reload closes.
		eventually(t, "an answer", func() bool { return fetch(cl, c.URL("GW")).status == 200 })
		cl.CloseIdleConnections()
		c.Reload(config)
	}
	round()
	before := runtime.NumGoroutine()
	for range 30 {
		round()
	}
	eventually(t, fmt.Sprintf("goroutines to return to about %d", before), func() bool {
		return runtime.NumGoroutine() < before+15
	})
	if len(theCollector.live) != 1 {
		t.Errorf("%d policies are live after 31 reloads", len(theCollector.live))
	}
}

func TestReloadsUnderLoadLoseNoCountAndNoKnowledge(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	a.delay.Store(int64(time.Millisecond))
	b.delay.Store(int64(time.Millisecond))
	config := proxy("\nlb_retries 2", a, b)
	c := caddyrun.Start(t, config)
	before := a.node(t)
	stop := load(client(t), c.URL("GW"), 8)
	for range 10 {
		time.Sleep(30 * time.Millisecond)
		c.Reload(config)
	}
	// Caddy itself may lose a connection that it closes while a client
	// writes to it; an answer from a node must never be an error.
	for _, r := range stop() {
		if r.err == nil {
			t.Errorf("a client got %+v", r)
		}
	}
	if a.node(t) != before {
		t.Error("the node was forgotten")
	}
	idle(t, a, b)
	picks := before.Picks(balance.Best)
	if picks == 0 || picks > uint64(a.hits.Load())+8 {
		t.Errorf("%d picks, %d requests arrived", picks, a.hits.Load())
	}
}
