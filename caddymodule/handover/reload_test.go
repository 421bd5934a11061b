package handover

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

const wrapped = "listener_wrappers {\nhandover\n}"

func TestReloadsLoseNothing(t *testing.T) {
	for _, tr := range traffics {
		if tr.h2 && !tr.again {
			continue // net/http itself gives such requests up when it meets a GOAWAY
		}
		t.Run(strings.ReplaceAll(tr.name, "/", " "), func(t *testing.T) {
			node := newEcho(t)
			c := caddyrun.Start(t, config(wrapped, node, 0))
			o := underReloads(tr, tr.target(c), func() {
				for n := range 12 {
					c.Reload(config(wrapped, node, n/2))
					time.Sleep(20 * time.Millisecond)
				}
			})
			if o.losses() > 0 || node.twice.Load() > 0 {
				t.Errorf("%v, run twice: %d", o, node.twice.Load())
			}
		})
	}
}

// open connects to a site of the Caddyfile.
func open(t *testing.T, c *caddyrun.Instance, tr traffic) *rawClient {
	t.Helper()
	if !tr.tls {
		return dial(t, "tcp", c.Addr("PLAIN"), nil)
	}
	// The first certificate is issued in the background.
	for range 100 {
		conn, err := tls.Dial("tcp", c.Addr("TLS"), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			return newRawClient(t, conn)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("no TLS connection")
	return nil
}

func answering(text string) string {
	return `{
	skip_install_trust
	auto_https disable_redirects
	servers {
		` + wrapped + `
	}
}
http://ADDR_PLAIN {
	respond ` + text + `
}
https://ADDR_TLS {
	tls internal
	respond ` + text + `
}`
}

// answeringPlain does without certificates, which are still being written when
// a short test ends.
func answeringPlain(text string) string {
	return "{\n\tservers {\n" + wrapped + "\n}\n}\nhttp://ADDR_PLAIN {\n\trespond " + text + "\n}"
}

var plain, overTLS = traffic{name: "plain"}, traffic{name: "TLS", tls: true}

func TestIdleConnectionOutlivesReloads(t *testing.T) {
	for _, tr := range []traffic{plain, overTLS} {
		t.Run(tr.name, func(t *testing.T) {
			c := caddyrun.Start(t, answering("first"))
			conn := open(t, c, tr)
			conn.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", conn.RemoteAddr())
			conn.want("first")
			for _, text := range []string{"second", "third", "fourth"} {
				c.Reload(answering(text))
				conn.send("POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\nab", conn.RemoteAddr())
				conn.want(text)
			}
			// Handed over twice without a request between.
			c.Reload(answering("fifth"))
			c.Reload(answering("sixth"))
			conn.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", conn.RemoteAddr())
			conn.want("sixth")
		})
	}
}

func TestHalfAHeadIsContinuedInTheNewConfiguration(t *testing.T) {
	for _, tr := range []traffic{plain, overTLS} {
		t.Run(tr.name, func(t *testing.T) {
			c := caddyrun.Start(t, answering("first"))
			conn := open(t, c, tr)
			conn.send("GET / HTTP/1.1\r\nHo")
			time.Sleep(20 * time.Millisecond) // the server reads it
			c.Reload(answering("second"))
			conn.send("st: %s\r\n", conn.RemoteAddr())
			time.Sleep(20 * time.Millisecond)
			c.Reload(answering("third"))
			conn.send("\r\n")
			conn.want("third")
		})
	}
}

func TestConnectionWithoutARequestIsHandedOver(t *testing.T) {
	c := caddyrun.Start(t, answeringPlain("first"))
	conn := open(t, c, plain)
	c.Reload(answeringPlain("second"))
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("second")
}

func TestFailedReloadKeepsConnections(t *testing.T) {
	c := caddyrun.Start(t, answeringPlain("first"))
	conn := open(t, c, plain)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first")
	// Some of its servers begin to listen, then one finds no such address here.
	err := c.Load(answeringPlain("second") + "\nhttp://192.0.2.1:1 {\n\tbind 192.0.2.1\n}")
	if err == nil {
		t.Fatal("a configuration with a foreign address was loaded")
	}
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first")
	open(t, c, plain).send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

func TestStreamOfTheOldConfigurationEndsAndItsConnectionGoesOn(t *testing.T) {
	for name, request := range map[string]string{
		"length":  "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request: 1\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Request: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			node := newStreamer(t)
			site := func(text string) string {
				return "{\nservers {\n" + wrapped + "\n}\n}\nhttp://ADDR_PLAIN {\nrespond /next " + text + "\nreverse_proxy " + node.addr() + " {\nflush_interval -1\n}\n}"
			}
			c := caddyrun.Start(t, site("old"))
			conn := dial(t, "tcp", c.Addr("PLAIN"), nil)
			// The second request waits behind the first, in the server's buffer.
			conn.send("%sGET /next HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", request)
			resp := conn.head()
			c.Reload(site("new"))
			node.finish <- struct{}{}
			conn.body(resp, "begun ended")
			if resp.Close {
				t.Error("the stream's head was sent before the reload, and says that the connection ends")
			}
			conn.want("new")
		})
	}
}

func TestClientCertificatesAreNotCarriedOver(t *testing.T) {
	a := &listener{tls: true, settings: settings{trust: ""}}
	b := &listener{tls: true, settings: settings{trust: ""}}
	if a.mayHaveFrom(b) {
		t.Error("a connection whose client certificate was checked by the old configuration goes on in the new one")
	}
	a.trust, b.trust = "[{}]", `[{"protocol_min":"tls1.3"}]`
	if a.mayHaveFrom(b) {
		t.Error("a connection goes on where other TLS policies hold")
	}
	b.trust = a.trust
	if !a.mayHaveFrom(b) {
		t.Error("equal policies, and no hand-over")
	}
	if b.tls = false; a.mayHaveFrom(b) || b.mayHaveFrom(a) {
		t.Error("hand-over between TLS and plain HTTP")
	}
}

func TestRemovedAddressIsClosed(t *testing.T) {
	c := caddyrun.Start(t, answeringPlain("first"))
	conn := open(t, c, plain)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first")
	c.Reload(answeringPlain("second")) // so that the connection is a handed over one
	c.Reload("http://ADDR_OTHER {\n\trespond other\n}")
	conn.wantEnd()
	wantRefused(t, c.Addr("PLAIN"))
	wantNoAddresses(t)
}

func TestStopClosesEverything(t *testing.T) {
	c := caddyrun.Start(t, answeringPlain("first"))
	conn := open(t, c, plain)
	c.Reload(answeringPlain("second"))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	conn.wantEnd()
	wantRefused(t, c.Addr("PLAIN"))
	wantNoAddresses(t)
}

func TestHundredReloadsLeakNoSocket(t *testing.T) {
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc: run this on Linux")
		}
		n := 0
		for _, fd := range fds {
			if name, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(name, "socket:") {
				n++
			}
		}
		return n
	}
	c := caddyrun.Start(t, "{\nservers {\n"+wrapped+"\n}\n}\nhttp://ADDR_PLAIN {\nrespond 0\n}")
	conn := dial(t, "tcp", c.Addr("PLAIN"), nil)
	before := count()
	for range 100 {
		c.Reload("{\nservers {\n" + wrapped + "\n}\n}\nhttp://ADDR_PLAIN {\nrespond 1\n}")
	}
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("1")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // those of the last but one may be closing
		after := count()
		if after <= before+1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets before, %d after", before, after)
		}
	}
}

func TestProxyProtocolKeepsTheClientsAddress(t *testing.T) {
	site := func(text string) string {
		return "{\nservers {\nlistener_wrappers {\nproxy_protocol {\nallow 127.0.0.1/32\n}\nhandover\n}\n}\n}\nhttp://ADDR_PLAIN {\nrespond \"" + text + " {remote_host}\"\n}"
	}
	c := caddyrun.Start(t, site("first"))
	conn := dial(t, "tcp", c.Addr("PLAIN"), nil)
	late := dial(t, "tcp", c.Addr("PLAIN"), nil) // its PROXY header comes after the reload
	conn.send("PROXY TCP4 203.0.113.7 203.0.113.8 1000 80\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first 203.0.113.7")
	c.Reload(site("second"))
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("second 203.0.113.7")
	late.send("PROXY TCP4 203.0.113.9 203.0.113.8 1000 80\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	late.want("second 203.0.113.9")
}

func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "handover") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	site := func(text string) string {
		return "{\nservers {\n" + wrapped + "\n}\n}\nhttp:// {\nbind unix/" + path + "\nrespond " + text + "\n}"
	}
	c := caddyrun.Start(t, site("first"))
	conn := dial(t, "unix", path, nil)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first")
	for i := range 3 {
		c.Reload(site("second"))
		conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		conn.want("second")
		if i == 0 {
			continue // the first one may still take a connection
		}
		fresh := dial(t, "unix", path, nil)
		fresh.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		fresh.want("second")
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // Stop only begins it
		if _, err := os.Stat(path); err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket's file is still there")
		}
	}
}

func TestOnlyHTTP1IsEnabled(t *testing.T) {
	// Caddy wraps the connections once more then.
	site := func(text string) string {
		return "{\nskip_install_trust\nauto_https disable_redirects\nservers {\nprotocols h1\n" + wrapped + "\n}\n}\nhttp://ADDR_PLAIN {\nrespond " + text + "\n}\nhttps://ADDR_TLS {\ntls internal\nrespond \"" + text + " {scheme}\"\n}"
	}
	c := caddyrun.Start(t, site("first"))
	conn, secure := open(t, c, plain), open(t, c, overTLS)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("first")
	secure.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", secure.RemoteAddr())
	secure.want("first https")
	c.Reload(site("second"))
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	conn.want("second")
	secure.send("GET / HTTP/1.1\r\nHost: %s\r\n\r\n", secure.RemoteAddr())
	secure.want("second https")
}

func TestPlainHTTPOnATLSPortIsToldSo(t *testing.T) {
	c := caddyrun.Start(t, answering("x"))
	open(t, c, overTLS)
	conn := dial(t, "tcp", c.Addr("TLS"), nil)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if resp := conn.head(); resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestBadPositionNamesTheRemedy(t *testing.T) {
	for _, wrappers := range []string{"handover\ntls", "handover\n" + "handover", "handover\nproxy_protocol"} {
		config, err := caddyrun.Adapt("{\nservers {\nlistener_wrappers {\n" + wrappers + "\n}\n}\n}\nhttp://127.0.0.1:1 {\n}")
		if err != nil {
			t.Fatal(err)
		}
		var cfg *caddy.Config
		if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
			t.Fatal(err)
		}
		if _, err = caddy.ProvisionContext(cfg); err == nil || !strings.Contains(err.Error(), "move it to the end") {
			t.Errorf("%q: %v", wrappers, err)
		}
	}
	for _, config := range []string{"handover now", "handover {\nnow\n}"} {
		if _, err := caddyrun.Adapt("{\nservers {\nlistener_wrappers {\n" + config + "\n}\n}\n}\nhttp://127.0.0.1:1 {\n}"); err == nil || !strings.Contains(err.Error(), "Caddyfile:4") && !strings.Contains(err.Error(), "Caddyfile:5") {
			t.Errorf("%q: %v", config, err)
		}
	}
}

func TestHTTP2ClientIsAskedToGoBeforeItIsRefused(t *testing.T) {
	c := caddyrun.Start(t, answering("first"))
	h := openHTTP2(t, open(t, c, overTLS).RemoteAddr().String())
	h.get(1)
	done := make(chan error, 1)
	go func() { done <- c.Load(answering("second")) }()
	if last := h.goAway(); last != 1<<31-1 {
		t.Fatalf("the first GOAWAY names stream %d", last)
	}
	// This stream crosses the GOAWAY, and is answered.
	h.get(3)
	h.ping()
	if last := h.goAway(); last != 3 {
		t.Errorf("the server's GOAWAY names stream %d", last)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWebsocketSurvivesReloads(t *testing.T) {
	node := newUpgrader(t)
	site := func(n, delay string) string {
		return "{\nservers {\n" + wrapped + "\n}\n}\nhttp://ADDR_PLAIN {\nheader X-Config " + n + "\nreverse_proxy " + node + " {\n" + delay + "\n}\n}"
	}
	c := caddyrun.Start(t, site("1", "stream_close_delay 1h"))
	conn := dial(t, "tcp", c.Addr("PLAIN"), nil)
	conn.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp := conn.head(); resp.StatusCode != 101 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	for _, n := range []string{"2", "3"} {
		conn.echo("hello " + n)
		c.Reload(site(n, "stream_close_delay 1h"))
	}
	conn.echo("hello again")

	short := dial(t, "tcp", c.Addr("PLAIN"), nil)
	c.Reload(site("4", ""))
	short.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	short.head()
	short.echo("hello")
	c.Reload(site("5", ""))
	// Without the delay Caddy sends a close frame and ends the connection.
	if _, err := io.Copy(io.Discard, short.r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a stream without stream_close_delay stays open")
	}
	conn.echo("still there")
	conn.Close()
}

func TestRequestOfAPassedConnectionIsNotHandled(t *testing.T) {
	c := &conn{phase: gone}
	if c.enter(nil) {
		t.Error("two servers handle one request")
	}
}
