package handover

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	nethttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// rawClient speaks HTTP/1 byte by byte.
type rawClient struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, network, addr string, config *tls.Config) *rawClient {
	t.Helper()
	var conn net.Conn
	var err error
	if config != nil {
		conn, err = tls.Dial(network, addr, config)
	} else {
		conn, err = net.Dial(network, addr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return newRawClient(t, conn)
}

func newRawClient(t testing.TB, conn net.Conn) *rawClient {
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &rawClient{Conn: conn, t: t, r: bufio.NewReader(conn)}
}

func (c *rawClient) send(format string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.Conn, format, args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) head() *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return resp
}

func (c *rawClient) body(resp *http.Response, want string) {
	c.t.Helper()
	got, err := io.ReadAll(resp.Body)
	if err != nil || string(got) != want {
		c.t.Fatalf("answer %q, error %v, want %q", got, err, want)
	}
}

func (c *rawClient) want(text string) {
	c.t.Helper()
	c.body(c.head(), text)
}

func (c *rawClient) echo(text string) {
	c.t.Helper()
	c.send("%s\n", text)
	if got, err := c.r.ReadString('\n'); err != nil || got != text+"\n" {
		c.t.Fatalf("echo %q, error %v, want %q", got, err, text)
	}
}

func (c *rawClient) wantEnd() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		c.t.Errorf("byte %q of a connection that should be closed", b)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the connection stays open")
	}
}

// wantRefused waits until nobody listens any more: a reload only begins the end
// of what was before it.
func wantRefused(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatalf("%s still listens", addr)
		}
	}
}

func wantNoAddresses(t *testing.T) {
	t.Helper()
	kept := func() (keys []string) {
		addresses.Lock()
		defer addresses.Unlock()
		for key := range addresses.m {
			keys = append(keys, fmt.Sprint(key))
		}
		return keys
	}
	for deadline := time.Now().Add(10 * time.Second); len(kept()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v are kept", kept())
		}
	}
}

// streamer is a node that begins its answer and ends it when told to.
type streamer struct {
	*httptest.Server
	finish chan struct{}
}

func newStreamer(t testing.TB) *streamer {
	s := &streamer{finish: make(chan struct{}, 1)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		select {
		case <-s.finish:
		case <-r.Context().Done():
		}
		io.WriteString(w, " ended")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *streamer) addr() string { return strings.TrimPrefix(s.URL, "http://") }

// newUpgrader starts a node that switches to a protocol that echoes lines.
func newUpgrader(t testing.TB) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		io.Copy(conn, rw)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// http2Client speaks HTTP/2 frame by frame.
type http2Client struct {
	t    testing.TB
	conn *tls.Conn
	f    *nethttp2.Framer
	hdr  bytes.Buffer
	enc  *hpack.Encoder
}

func openHTTP2(t testing.TB, addr string) *http2Client {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	h := &http2Client{t: t, conn: conn, f: nethttp2.NewFramer(conn, conn)}
	h.enc = hpack.NewEncoder(&h.hdr)
	io.WriteString(conn, nethttp2.ClientPreface)
	h.f.WriteSettings()
	return h
}

func (h *http2Client) next() nethttp2.Frame {
	h.t.Helper()
	f, err := h.f.ReadFrame()
	if err != nil {
		h.t.Fatal(err)
	}
	return f
}

// get asks and waits for the end of the answer.
func (h *http2Client) get(stream uint32) {
	h.t.Helper()
	h.hdr.Reset()
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {":authority", h.conn.RemoteAddr().String()}} {
		h.enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	h.f.WriteHeaders(nethttp2.HeadersFrameParam{StreamID: stream, BlockFragment: h.hdr.Bytes(), EndHeaders: true, EndStream: true})
	for {
		f := h.next()
		if f.Header().StreamID == stream && f.Header().Flags.Has(nethttp2.FlagDataEndStream) {
			return
		}
	}
}

func (h *http2Client) goAway() uint32 {
	h.t.Helper()
	for {
		if f, ok := h.next().(*nethttp2.GoAwayFrame); ok {
			return f.LastStreamID
		}
	}
}

// ping answers the server's PING.
func (h *http2Client) ping() {
	h.t.Helper()
	h.f.WritePing(true, [8]byte([]byte(pingData)))
}
