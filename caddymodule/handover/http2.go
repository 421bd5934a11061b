package handover

import (
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"time"
)

// An HTTP/2 connection is not handed over: its streams belong to the server
// that knows their state. It ends as RFC 9113, section 6.8, advises: a first
// GOAWAY that names no stream makes the client open new ones elsewhere, and the
// server's own GOAWAY follows when nothing is under way that it would refuse.
// net/http sends only the second, and a POST that crosses it is lost to clients
// that cannot send its body again. The PING tells when the client has read the
// first: it answers in order.

// http2Preface is what an HTTP/2 client sends first (RFC 9113, section 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// goAwayWait is how long a reload waits for HTTP/2 clients to answer: several
// round trips around the earth. Who has not answered by then gets the server's
// GOAWAY all the same.
const goAwayWait = time.Second

const (
	frameHeaders = 1
	framePing    = 6
	frameGoAway  = 7
	flagAck      = 1

	pingData = "handover"
	goAway   = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x7f\xff\xff\xff\x00\x00\x00\x00" +
		"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + pingData
)

func startsHTTP2(b []byte) bool {
	return len(b) >= len(http2Preface) && strings.HasPrefix(string(b[:len(http2Preface)]), http2Preface)
}

// frames follows the frames in one direction of an HTTP/2 connection.
type frames struct {
	head    [9]byte
	have    int // bytes of head
	left    int // bytes of the payload to come
	payload [8]byte
	size    int // of the payload so far
	count   int
}

// between reports whether the next byte begins a frame.
func (f *frames) between() bool { return f.have == 0 }

// next consumes bytes of one frame and reports whether they end it. kind, ack
// and data tell of the frame that has ended.
func (f *frames) next(p []byte) (n int, ended bool) {
	n = copy(f.head[f.have:], p)
	f.have += n
	if f.have < len(f.head) {
		return n, false
	}
	if n > 0 {
		f.left, f.size = int(binary.BigEndian.Uint32(f.head[:4])>>8), 0
	}
	part := p[n:]
	part = part[:min(f.left, len(part))]
	if f.size < len(f.payload) {
		f.size += copy(f.payload[f.size:], part)
	}
	f.left -= len(part)
	if f.left > 0 {
		return n + len(part), false
	}
	f.have = 0
	f.count++
	return n + len(part), true
}

func (f *frames) kind() byte   { return f.head[3] }
func (f *frames) ack() bool    { return f.head[4]&flagAck != 0 }
func (f *frames) data() string { return string(f.payload[:f.size]) }

// http2 is what is known of an HTTP/2 connection.
type http2 struct {
	in frames // guarded by its conn

	mu     sync.Mutex // held while writing
	out    frames
	wanted bool // a GOAWAY is to be written between two frames
	said   bool

	begin, finish sync.Once
	begun         chan struct{} // closed when the client has opened a stream, or the connection
	over          chan struct{} // closed when the client will open no new streams
}

func newHTTP2() *http2 {
	return &http2{begun: make(chan struct{}), over: make(chan struct{})}
}

func (h *http2) end() {
	h.begin.Do(func() { close(h.begun) })
	h.finish.Do(func() { close(h.over) })
}

// read follows what the client sends.
func (h *http2) read(p []byte) {
	for len(p) > 0 {
		n, ended := h.in.next(p)
		p = p[n:]
		switch {
		case !ended:
		case h.in.kind() == frameHeaders:
			h.begin.Do(func() { close(h.begun) })
		case h.in.kind() == framePing && h.in.ack() && h.in.data() == pingData:
			h.end()
		}
	}
}

// write writes what the server sends, and a GOAWAY between its frames if one is
// wanted.
func (h *http2) write(w io.Writer, p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	written := 0
	if h.wanted && !h.between() {
		n := h.follow(p, true)
		m, err := w.Write(p[:n])
		if written += m; err != nil {
			return written, err
		}
	}
	if err := h.sayIfWanted(w); err != nil {
		return written, err
	}
	if written == len(p) {
		return written, nil
	}
	h.follow(p[written:], false)
	n, err := w.Write(p[written:])
	return written + n, err
}

// between reports whether a GOAWAY may be written now. The server's settings
// are the first frame.
func (h *http2) between() bool { return h.out.count > 0 && h.out.between() }

// follow reads the server's frames in p, all of them or the first.
func (h *http2) follow(p []byte, one bool) int {
	i := 0
	for i < len(p) {
		n, ended := h.out.next(p[i:])
		i += n
		if ended && h.out.kind() == frameGoAway {
			h.said = true
			h.end()
		}
		if ended && one {
			break
		}
	}
	return i
}

func (h *http2) sayIfWanted(w io.Writer) error {
	if !h.wanted || h.said || !h.between() {
		return nil
	}
	h.said = true
	_, err := io.WriteString(w, goAway)
	return err
}

// sayGoAway asks the client to open no new streams here. A client that has just
// connected has something to ask first: it may be unable to ask it elsewhere.
func (h *http2) sayGoAway(w io.Writer, giveUp <-chan struct{}) {
	select {
	case <-h.begun:
	case <-giveUp:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = true
	if h.sayIfWanted(w) != nil {
		h.end()
	}
}
