package handover

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// restOf returns what follows the first request in b by our reckoning, when its
// bytes come in pieces of n.
func restOf(b []byte, r *http.Request, n int) []byte {
	after := afterHead(b)
	rest := bodyOf(r)
	var left []byte
	for len(after) > 0 {
		piece := after[:min(n, len(after))]
		after = after[len(piece):]
		left = append(left, piece[rest.consume(piece):]...)
	}
	return left
}

var pipelined = []string{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET / HTTP/1.0\n\n",
	"\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nA;x=\"0\"\r\n0\r\n\r\n01234\r\n00\r\nTrailer: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n",
}

func TestNextRequestBeginsWhereTheBodyEnds(t *testing.T) {
	const next = "GET /next HTTP/1.1\r\n"
	for _, first := range pipelined {
		text := strings.TrimLeft(first, "\r\n")
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 3, 7, 1000} {
			if got := restOf([]byte(first+next), r, n); string(got) != next {
				t.Errorf("after %q in pieces of %d: %q", first, n, got)
			}
		}
	}
}

// FuzzRequestEnd compares with net/http: what it leaves of the bytes after a
// request and its body is what we hand over.
func FuzzRequestEnd(f *testing.F) {
	for _, first := range pipelined {
		f.Add([]byte(strings.TrimLeft(first, "\r\n")+"GET /next HTTP/1.1\r\n"), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		reader := bufio.NewReaderSize(bytes.NewReader(b), len(b)+16)
		r, err := http.ReadRequest(reader)
		if err != nil || len(b) == 0 || b[0] == '\r' || b[0] == '\n' {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if r.Body.Close() != nil {
			return
		}
		want, _ := io.ReadAll(reader)
		if got := restOf(b, r, max(n, 1)); !bytes.Equal(got, want) {
			t.Errorf("%q leaves %q, net/http %q", b, got, want)
		}
	})
}
