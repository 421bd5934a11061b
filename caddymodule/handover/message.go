package handover

import (
	"bytes"
	"net/http"
)

// afterHead returns what follows the head of an HTTP/1 request at the start of
// b, or nil if b holds no complete head. The head ends with the first empty
// line, as for net/textproto: a line ends with LF, and a CR before it belongs
// to it.
func afterHead(b []byte) []byte {
	for i := trimBlank(b); ; {
		lf := bytes.IndexByte(b[i:], '\n')
		if lf < 0 {
			return nil
		}
		line := b[i : i+lf]
		i += lf + 1
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return b[i:]
		}
	}
}

// trimBlank returns how many bytes of CR and LF precede a request: old clients
// send a line end after the body of a POST, and net/http skips it.
func trimBlank(b []byte) int {
	return len(b) - len(bytes.TrimLeft(b, "\r\n"))
}

// A body says where the body of an HTTP/1 request ends in the bytes of its
// connection. net/http has parsed the head; only the chunked coding is read
// here, and nothing of it is validated: net/http does that, and closes the
// connection if it is wrong.
type body struct {
	left    int64 // bytes of the body, or of the chunk with its line end
	chunked bool
	line    chunkLine
	size    int64
	digits  bool
}

type chunkLine int

const (
	sizeLine chunkLine = iota
	sizeLineRest
	chunkData
	trailerStart
	trailerRest
	bodyEnd
)

// bodyOf returns the body of a request as net/http hands it to the handler.
func bodyOf(r *http.Request) body {
	if len(r.TransferEncoding) > 0 {
		return body{chunked: true}
	}
	return body{left: max(r.ContentLength, 0)}
}

// consume returns how many bytes at the start of p belong to the body.
func (b *body) consume(p []byte) int {
	if !b.chunked {
		n := min(b.left, int64(len(p)))
		b.left -= n
		return int(n)
	}
	i := 0
	for i < len(p) && b.line != bodyEnd {
		if b.line == chunkData {
			n := min(b.left, int64(len(p)-i))
			b.left -= n
			i += int(n)
			if b.left == 0 {
				b.line, b.size, b.digits = sizeLine, 0, false
			}
			continue
		}
		b.char(p[i])
		i++
	}
	return i
}

// char consumes one byte outside of a chunk's data.
func (b *body) char(c byte) {
	switch b.line {
	case sizeLine, sizeLineRest:
		d, ok := hexDigit(c)
		switch {
		case c == '\n' && !b.digits:
			// The line end of the chunk before.
		case c == '\n' && b.size == 0:
			b.line = trailerStart
		case c == '\n':
			b.line, b.left = chunkData, b.size
		case ok && b.line == sizeLine:
			// net/http refuses sizes of more than 16 digits.
			b.size, b.digits = b.size<<4|int64(d), true
		case b.digits:
			b.line = sizeLineRest
		}
	case trailerStart:
		switch c {
		case '\n':
			b.line = bodyEnd
		case '\r':
		default:
			b.line = trailerRest
		}
	case trailerRest:
		if c == '\n' {
			b.line = trailerStart
		}
	case chunkData, bodyEnd:
	}
}

func hexDigit(c byte) (int, bool) {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10, true
	default:
		return 0, false
	}
}
