package handover

import (
	"errors"
	"net"
	"sync"
	"time"
)

// A socket is the one listening socket of an address. It outlives the
// configurations: whichever was started last gets what it accepts, so that no
// connection waits in the queue of a socket that is about to be closed.
type socket struct {
	net.Listener

	mu    sync.Mutex
	feeds []*feed // oldest first
}

type accepted struct {
	conn net.Conn
	err  error
}

// shareSocket makes a socket that outlives the configuration whose listener is
// own. It returns what own had accepted if another socket takes its place.
func shareSocket(own osListener) (s *socket, early []net.Conn, err error) {
	file, err := own.File()
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, nil, err
	}
	if steer(l) == nil {
		return &socket{Listener: l}, nil, nil
	}
	plain, err := sibling(own)
	if err != nil {
		return &socket{Listener: l}, nil, nil
	}
	_ = l.Close()
	return &socket{Listener: plain}, retire(own), nil
}

// run accepts until the socket is closed.
func (s *socket) run() {
	for {
		conn, err := s.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.deliver(accepted{conn, err})
	}
}

// deliver gives a connection to the newest configuration's server, and waits
// until that accepts it.
func (s *socket) deliver(a accepted) {
	for {
		f := s.newest()
		if f == nil {
			if a.conn != nil {
				_ = a.conn.Close()
			}
			return
		}
		select {
		case f.accepted <- a:
			return
		case <-f.closed:
		}
	}
}

func (s *socket) newest() *feed {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.feeds) == 0 {
		return nil
	}
	return s.feeds[len(s.feeds)-1]
}

// A feed is one configuration's share of a socket.
type feed struct {
	net.Listener // Caddy's own listener, which accepts nothing any more

	socket    *socket
	keepAlive net.KeepAliveConfig
	early     []net.Conn // accepted by Caddy's own listener before it had to stop
	accepted  chan accepted
	closed    chan struct{}
	once      sync.Once
}

func (s *socket) feed(own net.Listener, keepAlive net.KeepAliveConfig) *feed {
	f := &feed{Listener: own, socket: s, keepAlive: keepAlive, accepted: make(chan accepted), closed: make(chan struct{})}
	s.mu.Lock()
	s.feeds = append(s.feeds, f)
	s.mu.Unlock()
	return f
}

// Accept returns the next connection of the shared socket.
func (f *feed) Accept() (net.Conn, error) {
	if len(f.early) > 0 {
		conn := f.early[0]
		f.early = f.early[1:]
		return conn, nil
	}
	select {
	case a := <-f.accepted:
		if tcp, ok := a.conn.(*net.TCPConn); ok && f.keepAlive.Enable {
			// As Caddy does: without it the connection works, too.
			_ = tcp.SetKeepAliveConfig(f.keepAlive)
		}
		return a.conn, a.err
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close ends this configuration's share, and the socket with the last one.
func (f *feed) Close() error {
	f.once.Do(func() {
		addresses.Lock()
		defer addresses.Unlock()
		f.socket.mu.Lock()
		for i, other := range f.socket.feeds {
			if other == f {
				f.socket.feeds = append(f.socket.feeds[:i:i], f.socket.feeds[i+1:]...)
				break
			}
		}
		last := len(f.socket.feeds) == 0
		f.socket.mu.Unlock()
		close(f.closed)
		if last {
			_ = f.socket.Close()
			dropSocket(f.socket)
		}
		// Caddy counts the users of an address by this. The socket in it may be
		// closed already.
		_ = f.Listener.Close()
		for _, conn := range f.early {
			_ = conn.Close()
		}
	})
	return nil
}

// retire closes the second socket that Caddy opens for an address during a
// reload and returns what it had accepted by then. Where steer works there is
// nothing.
func retire(spare osListener) []net.Conn {
	var conns []net.Conn
	if tcp, ok := spare.(*net.TCPListener); ok {
		_ = tcp.SetDeadline(time.Now().Add(time.Millisecond))
		for {
			conn, err := tcp.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
		}
		_ = tcp.Close()
	}
	return conns
}
