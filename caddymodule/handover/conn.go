package handover

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// phase is what a server does with a connection.
type phase int

const (
	// waiting: for a request, or for the rest of its head. No handler has seen
	// the bytes that were read.
	waiting phase = iota
	// handling: a handler runs, or has panicked.
	handling
	// finishing: the handler has returned, and net/http ends its response. Next
	// it calls ConnState, with StateIdle or StateClosed.
	finishing
	// opaque: HTTP/2, which says itself which requests it will not answer, or
	// hijacked.
	opaque
	// gone: another server has the connection.
	gone
	closed
)

// A conn is a connection as one server sees it. When that server closes it
// while it waits for a request, the connection goes on as another conn of
// another server, which reads again what this one had read of the request.
type conn struct {
	net.Conn
	l *listener

	mu       sync.Mutex
	phase    phase
	unread   []byte // to be read before the connection
	ahead    []byte // read by the server, seen by no handler
	body     body   // of the request that is handled
	h2       *http2 // nil unless the client speaks HTTP/2
	reading  bool
	opening  bool // a TLS handshake or a PROXY header comes first: not to be interrupted
	failed   bool // the server knows that the connection is at its end
	answered bool // something was written while waiting: the request was refused
	idle     bool // handed over between two requests, nothing was read since
	closing  bool // closed while finishing
}

func newConn(nc net.Conn) *conn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return &conn{Conn: nc}
	default:
		return &conn{Conn: nc, opening: true}
	}
}

// tlsConn is a conn over TLS. Its method tells net/http and Caddy so.
type tlsConn struct{ *conn }

// ConnectionState returns what the handshake agreed on.
func (c tlsConn) ConnectionState() tls.ConnectionState {
	return c.Conn.(*tls.Conn).ConnectionState()
}

func (c *conn) netConn() net.Conn {
	if _, ok := c.Conn.(*tls.Conn); ok {
		return tlsConn{c}
	}
	return c
}

// Read reads what the client has sent.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	switch {
	case c.phase == gone:
		c.mu.Unlock()
		return 0, io.EOF
	case len(c.unread) > 0:
		defer c.mu.Unlock()
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		c.account(p[:n])
		return n, nil
	}
	c.reading = true
	c.mu.Unlock()

	n, err := c.readBelow(p)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.opening = false, false
	if c.idle && n > 0 {
		// A request has begun, for which net/http allows less time.
		c.idle = false
		c.setHeaderDeadline()
	}
	first := len(c.ahead) == 0
	if c.phase == waiting && first && n > 0 && c.l.isEnding() && c.release() {
		// The request arrived at the server's end: net/http would read it and
		// hang up.
		c.ahead = append(c.ahead, p[:n]...)
		c.pass()
		return 0, io.EOF
	}
	c.account(p[:n])
	if c.phase == gone {
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			_ = c.discard()
		} else {
			c.pass()
		}
		return 0, io.EOF
	}
	if err != nil && c.phase == waiting {
		c.failed = true
	}
	return n, err
}

// readBelow reads from the connection, after the TLS handshake.
func (c *conn) readBelow(p []byte) (int, error) {
	if overTLS, ok := c.Conn.(*tls.Conn); ok && c.opening {
		err := overTLS.Handshake()
		c.mu.Lock()
		c.opening = false
		passed := c.phase == gone
		c.mu.Unlock()
		if err != nil {
			refusePlainHTTP(err)
			return 0, err
		}
		if passed {
			return 0, os.ErrDeadlineExceeded
		}
	}
	return c.Conn.Read(p)
}

// refusePlainHTTP tells a client that sent HTTP to a TLS port, as net/http does.
func refusePlainHTTP(err error) {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		_ = record.Conn.Close()
	}
}

// account keeps what the server reads until a handler sees it.
func (c *conn) account(p []byte) {
	switch c.phase {
	case handling, finishing:
		p = p[c.body.consume(p):]
	case opaque:
		if c.h2 != nil {
			c.h2.read(p)
		}
		return
	case closed:
		return
	case waiting, gone:
	}
	if len(p) == 0 {
		return
	}
	if c.ahead = append(c.ahead, p...); len(c.ahead) > c.l.maxHead {
		// More than net/http reads ahead. It refuses such a head.
		c.failed, c.ahead = true, nil
	}
	if c.phase == waiting && startsHTTP2(c.ahead) {
		c.phase, c.h2 = opaque, newHTTP2()
		c.h2.read(c.ahead[len(http2Preface):])
		c.ahead = nil
	}
}

// Write sends an answer.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.phase == gone {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	if c.phase == waiting {
		c.answered = true
	}
	h2 := c.h2
	c.mu.Unlock()
	if h2 != nil {
		return h2.write(c.Conn, p)
	}
	return c.Conn.Write(p)
}

// ReadFrom lets the operating system copy files.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	c.mu.Lock()
	passed := c.phase == gone
	c.mu.Unlock()
	if passed {
		return 0, net.ErrClosed
	}
	return io.Copy(c.Conn, r)
}

// CloseWrite ends the sending half, where the connection has halves.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	c.mu.Lock()
	passed := c.phase == gone
	c.mu.Unlock()
	if !ok || passed {
		return nil
	}
	return half.CloseWrite()
}

// Close ends the connection for this server. If no handler has seen the next
// request, another server gets it.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case gone, closed:
		return nil
	case finishing:
		// Either the response says that the connection ends, or net/http shuts
		// down and takes it for idle: ConnState tells which.
		c.closing = true
		return nil
	case waiting:
		if c.release() {
			c.passUnlessReading()
			return nil
		}
	case handling, opaque:
	}
	return c.discard()
}

// discard closes the connection itself.
func (c *conn) discard() error {
	c.phase = closed
	if c.l != nil {
		c.l.forget(c)
	}
	if c.h2 != nil {
		c.h2.end()
	}
	return c.Conn.Close()
}

// release takes the connection from its server if another one can have it.
func (c *conn) release() bool {
	if c.failed || c.answered || c.l.addr.successor(c.l) == nil {
		return false
	}
	c.phase = gone
	return true
}

// passUnlessReading passes a released connection on, or makes the server's
// reader do it.
func (c *conn) passUnlessReading() {
	switch {
	case !c.reading:
		c.pass()
	case !c.opening:
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// pass gives the connection to the next server.
func (c *conn) pass() {
	_ = c.Conn.SetDeadline(time.Time{})
	rest := slices.Concat(c.ahead, c.unread)
	rest = rest[trimBlank(rest):]
	c.ahead, c.unread = nil, nil
	c.l.forget(c)
	c.l.addr.give(&conn{Conn: c.Conn, unread: rest, idle: len(rest) == 0, opening: c.opening}, c.l)
}

// leaveServer is called when the server is about to end, and when its listener
// is closed. It returns what is known of an HTTP/2 connection.
func (c *conn) leaveServer() *http2 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != waiting {
		return c.h2
	}
	if c.release() {
		c.passUnlessReading()
	} else if c.idle {
		// For net/http it is new, and would hold its shutdown up for 5 s.
		_ = c.discard()
	}
	return nil
}

// enter is called before the handler of a request; false if the request is
// another server's now.
func (c *conn) enter(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case gone, closed:
		return false
	case opaque:
		return true
	case waiting, handling, finishing:
	}
	c.phase, c.body = handling, bodyOf(r)
	rest := afterHead(c.ahead)
	rest = rest[c.body.consume(rest):]
	c.ahead = append(c.ahead[:0], rest...)
	return true
}

// leave is called after it, unless it has panicked.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == handling {
		c.phase = finishing
	}
}

// stateChanged follows net/http, where only StateIdle says that a connection
// can have another request.
func (c *conn) stateChanged(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == opaque, c.phase == gone, c.phase == closed:
	case state == http.StateHijacked:
		c.phase, c.ahead = opaque, nil
		c.l.forget(c)
	case state == http.StateIdle && c.phase == finishing:
		c.phase, c.answered = waiting, false
		if c.closing && c.release() {
			c.passUnlessReading()
		} else if c.closing {
			_ = c.discard()
		}
	case state == http.StateClosed:
		_ = c.discard()
	}
}

// SetDeadline sets both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline limits Read. A connection that was handed over between two
// requests may stay idle as long as any other, though it is new to net/http,
// which allows it the time for a header.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone {
		return nil
	}
	if c.idle && !t.IsZero() && c.l.idleTimeout > 0 {
		t = time.Now().Add(c.l.idleTimeout)
	}
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) setHeaderDeadline() {
	var t time.Time
	if d := c.l.readHeaderTimeout; d > 0 {
		t = time.Now().Add(d)
	}
	_ = c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline limits Write.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}
