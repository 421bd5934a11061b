package handover

import (
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// maxQueued bounds the connections that were handed over and that the new
// server has not accepted yet. It accepts without delay; what comes beyond is
// closed as it would have been without hand-over.
const maxQueued = 1 << 16

// settings are what a listener must know of its server.
type settings struct {
	idleTimeout       time.Duration
	readHeaderTimeout time.Duration
	maxHead           int // bytes of a request's head
	// trust stands for what a TLS handshake proves under this configuration;
	// "" if its proofs may not be carried into another one.
	trust string
	// config stands for the configuration.
	config *caddyevents.App
}

// A listener is one configuration's listener on an address. It accepts what the
// listener below it accepts and the connections that the configuration before
// hands over.
type listener struct {
	net.Listener
	settings

	tls      bool
	addr     *address
	accepted chan accepted
	wake     chan struct{} // has an element when the queue may have one
	done     chan struct{}

	mu      sync.Mutex
	closed  bool
	leaving bool // the configuration is about to end
	queue   []*conn
	conns   map[*conn]struct{} // those that were not hijacked
}

func newListener(below net.Listener, addr *address, tls bool, s settings) *listener {
	return &listener{
		Listener: below,
		settings: s,
		tls:      tls,
		addr:     addr,
		accepted: make(chan accepted),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
		conns:    make(map[*conn]struct{}),
	}
}

// mayHaveFrom reports whether a connection of another configuration may go on
// in this one. Under TLS it keeps what the handshake has proven, so both must
// ask for the same proofs.
func (l *listener) mayHaveFrom(from *listener) bool {
	return l.tls == from.tls && (!l.tls || l.trust != "" && l.trust == from.trust)
}

// run accepts from below until the listener is closed.
func (l *listener) run() {
	for {
		nc, err := l.Listener.Accept()
		select {
		case l.accepted <- accepted{nc, err}:
		case <-l.done:
			if nc != nil {
				l.addr.give(newConn(nc), l)
			}
			if err != nil {
				return
			}
		}
	}
}

// Accept returns the next connection, new or handed over.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if c := l.pop(); c != nil {
			return c.netConn(), nil
		}
		select {
		case <-l.wake:
		case a := <-l.accepted:
			if a.err != nil {
				return nil, a.err
			}
			c := newConn(a.conn)
			if !l.adopt(c) {
				l.addr.give(c, l)
				return nil, net.ErrClosed
			}
			return c.netConn(), nil
		case <-l.done:
			return nil, net.ErrClosed
		}
	}
}

// Close ends the listener and hands the connections that wait for a request to
// the listener that stays.
func (l *listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	queue, conns := l.queue, l.all()
	l.queue = nil
	l.mu.Unlock()

	l.addr.leave(l)
	close(l.done)
	err := l.Listener.Close()
	for _, c := range queue {
		l.addr.give(c, l)
	}
	for _, c := range conns {
		c.leaveServer()
	}
	return err
}

// push queues a connection that was handed over; false if it is too late for that.
func (l *listener) push(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if len(l.queue) >= maxQueued {
		_ = c.discard()
		return true
	}
	l.queue = append(l.queue, c)
	l.signal()
	return true
}

func (l *listener) pop() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 || l.closed {
		return nil
	}
	c := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	if len(l.queue) > 0 {
		l.signal()
	}
	c.l = l
	l.conns[c] = struct{}{}
	return c
}

func (l *listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// adopt makes a connection one of this listener's.
func (l *listener) adopt(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	c.l = l
	l.conns[c] = struct{}{}
	return true
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// startLeaving makes the listener pass on every connection whose next request
// arrives, and returns all it has.
func (l *listener) startLeaving() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaving = true
	return l.all()
}

func (l *listener) all() []*conn { return slices.Collect(maps.Keys(l.conns)) }

func (l *listener) isEnding() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed || l.leaving
}
