package gpupolicy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// events answers with a stream of what the test sends, each flushed, and dies
// in the middle when the channel is closed.
func events(kind string, sent <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		for part := range sent {
			fmt.Fprint(w, part)
			w.(http.Flusher).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

func TestBrokenEventStreamEndsWithAnError(t *testing.T) {
	for _, test := range []struct {
		name, path, kind string
		parts            []string
		want             string // behind the parts
	}{
		{"between events", "/", "text/event-stream", []string{"data: 1\n\n", "data: 2\n\n"}, streamBroken},
		{"in an event", "/", "text/event-stream; charset=utf-8", []string{"data: 1\n\n", "id: 7\ndata: {\"ha"}, "\nevent: incomplete\nid: \n\n" + streamBroken},
		{"before any", "/", "text/event-stream", nil, streamBroken},
		{"Gradio's", "/ui/queue/data?session_hash=x", "text/event-stream", []string{"data: {}\n\n"}, gradioBroken},
		{"another kind", "/", "application/x-ndjson", []string{"{}\n"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := newUpstream(t)
			sent := make(chan string)
			u.answers(events(test.kind, sent))
			c := caddyrun.Start(t, proxy("", u))
			resp, err := client(t).Get(c.URL("GW") + test.path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			// Each part arrives before the next is sent: nothing is held back.
			for _, part := range test.parts {
				sent <- part
				got := make([]byte, len(part))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != part {
					t.Fatalf("%q, %v; want %q", got, err, part)
				}
			}
			close(sent)
			rest, err := io.ReadAll(resp.Body)
			if string(rest) != test.want {
				t.Errorf("the stream ends with %q, want %q", rest, test.want)
			}
			if err == nil {
				t.Error("the answer looks whole")
			}
			eventually(t, "in flight to return to zero", func() bool { return u.inFlight(t) == 0 })
		})
	}
}

// The last words arrive before HTTP/2 resets the stream.
func TestBrokenEventStreamEndsWithAnErrorOverHTTP2(t *testing.T) {
	u := newUpstream(t)
	sent := make(chan string)
	u.answers(events("text/event-stream", sent))
	c := caddyrun.Start(t, "{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\n"+proxy("", u))
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get(c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("%s", resp.Proto)
	}
	const part = "data: 1\n\n"
	sent <- part
	if _, err := io.ReadFull(resp.Body, make([]byte, len(part))); err != nil {
		t.Fatal(err)
	}
	close(sent)
	if rest, err := io.ReadAll(resp.Body); string(rest) != streamBroken || err == nil {
		t.Errorf("the stream ends with %q, %v", rest, err)
	}
}

func TestWholeEventStreamPassesUntouched(t *testing.T) {
	u := newUpstream(t)
	const text = "id: 1\ndata: a\r\n\r\n: ping\n\ndata: half of an ev"
	u.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		fmt.Fprint(w, text)
	})
	c := caddyrun.Start(t, proxy("", u))
	if r := fetch(client(t), c.URL("GW")); r.err != nil || r.body != text {
		t.Errorf("%q, %v", r.body, r.err)
	}
}

// A client that leaves is no failure of the node.
func TestClientThatLeavesAnEventStreamBlamesNobody(t *testing.T) {
	u := newUpstream(t)
	left := make(chan struct{})
	u.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(left)
	})
	c := caddyrun.Start(t, proxy(ejectAtOnce, u))
	resp, err := client(t).Get(c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-left // the node's work is called off
	eventually(t, "in flight to return to zero", func() bool { return u.inFlight(t) == 0 })
	if s := nodeStatus(t, u); s.State != "up" {
		t.Errorf("the node is %s", s.State)
	}
}

// echoes makes the node send what it gets on a websocket back, until it dies: the
// connection is then cut without a close frame, as by a kernel.
func echoes(u *upstream) (die func()) {
	dead := make(chan struct{})
	u.answers(websocket.Handler(func(ws *websocket.Conn) {
		go func() { _, _ = io.Copy(ws, ws) }()
		select {
		case <-dead:
		case <-ws.Request().Context().Done():
		}
	}).ServeHTTP)
	return sync.OnceFunc(func() { close(dead) })
}

func dialWebsocket(t *testing.T, c *caddyrun.Instance, name, cookie string) *websocket.Conn {
	t.Helper()
	config, err := websocket.NewConfig("ws://"+c.Addr(name)+"/", "http://"+c.Addr(name))
	if err != nil {
		t.Fatal(err)
	}
	if cookie != "" {
		config.Header.Set("Cookie", cookie)
	}
	ws, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if err := ws.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ws
}

func echoed(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	got := ""
	if err := websocket.Message.Send(ws, text); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Message.Receive(ws, &got); err != nil || got != text {
		t.Fatalf("%q, %v; want %q", got, err, text)
	}
}

func TestWebsocketPassesAndEndsWithItsNode(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy(sticky, a, b))
	v := newVisitor(t, c.URL("GW"))
	home := of(v.asks(), a, b)
	dieA, dieB := echoes(a), echoes(b)
	defer dieA()
	defer dieB()
	ws := dialWebsocket(t, c, "GW", v.cookie)
	for i := range 3 {
		echoed(t, ws, fmt.Sprint("message ", i))
	}
	echoed(t, ws, strings.Repeat("long ", 800))
	if home.inFlight(t) != 1 {
		t.Errorf("the websocket is not at %s, where its session is", home.addr)
	}
	dieA()
	dieB()
	var got string
	if err := websocket.Message.Receive(ws, &got); err == nil || errors.Is(err, errTimeout(err)) {
		t.Errorf("with its node dead, the client sees %q, %v", got, err)
	}
	ws.Close()
	idle(t, a, b)
}

// errTimeout returns err if it says that nothing happened.
func errTimeout(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return err
	}
	return nil
}

// A websocket's handshake brings the cookie, too.
func TestWebsocketIsGivenTheCookie(t *testing.T) {
	u := newUpstream(t)
	defer echoes(u)()
	c := caddyrun.Start(t, proxy(sticky, u))
	conn, err := net.Dial("tcp", c.Addr("GW"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %[1]s\r\nOrigin: http://%[1]s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", c.Addr("GW"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || !strings.HasPrefix(resp.Header.Get("Set-Cookie"), "node=") {
		t.Errorf("status %d, given %q", resp.StatusCode, resp.Header.Get("Set-Cookie"))
	}
}
