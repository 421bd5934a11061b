package sharedcache

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/modelproxy"
)

// answer is a whole one, of status 200.
type answer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// write sends it, with its Cache-Status.
func (a *answer) write(w http.ResponseWriter, status string) error {
	header := w.Header()
	for name, values := range a.Header {
		header[name] = slices.Clone(values)
	}
	header.Set("Cache-Status", status)
	header.Set("Content-Length", strconv.Itoa(len(a.Body)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(a.Body) // an error means that the client has gone
	return nil
}

// own are headers that belong to one answer and not to its repetitions: those of
// the connection, and what tells of how it came about.
var own = []string{
	"Alt-Svc", "Cache-Status", "Connection", "Content-Length", "Date", "Keep-Alive", "Proxy-Connection", "Server",
	"Server-Timing", "Trailer", "Transfer-Encoding", "Upgrade", "Via",
}

// recorder lets an answer pass and keeps a copy of it, if it may be kept.
type recorder struct {
	caddyhttp.ResponseWriterWrapper
	max     int64
	keyed   []string // headers of the request that are part of the key
	refused func()   // called as soon as it can't be kept

	status int
	header http.Header
	body   []byte
	keeps  bool
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
		r.header = r.Header().Clone()
		if r.keeps = r.mayBeKept(); !r.keeps {
			r.refused()
		}
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if r.keeps && int64(len(r.body)+len(p)) > r.max {
		r.keeps, r.body = false, nil
		r.refused()
	}
	if !r.keeps {
		return r.ResponseWriter.Write(p)
	}
	r.body = append(r.body, p...)
	// When the first client has gone others may wait for the rest.
	_, _ = r.ResponseWriter.Write(p)
	return len(p), nil
}

// ReadFrom is there because the wrapper's own would pass the recorder by.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{r}, src)
}

// mayBeKept judges by the head.
func (r *recorder) mayBeKept() bool {
	if r.status != http.StatusOK || r.header.Get("Set-Cookie") != "" || r.header.Get(modelproxy.FallbackHeader) != "" ||
		has(r.header, "Cache-Control", "no-store", "private") ||
		strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		return false
	}
	for _, line := range r.header.Values("Vary") {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if !slices.ContainsFunc(r.keyed, func(k string) bool { return strings.EqualFold(k, name) }) {
				return false
			}
		}
	}
	return true
}

// answer returns what is to be kept of an answer that has come to its end, or
// nil.
func (r *recorder) answer() *answer {
	if !r.keeps || len(r.body) == 0 {
		return nil
	}
	if length := r.header.Get("Content-Length"); length != "" && length != strconv.Itoa(len(r.body)) {
		return nil
	}
	header := r.header.Clone()
	for _, name := range own {
		header.Del(name)
	}
	return &answer{Header: header, Body: r.body}
}

// key identifies what a request asks. Each part has its length before it, so
// that none can pretend to be a part of another.
func (h *Handler) key(r *http.Request, body []byte) string {
	sum := sha256.New()
	part := func(s string) { fmt.Fprintf(sum, "%d:%s\n", len(s), s) }
	part(r.URL.EscapedPath())
	part(r.URL.RawQuery)
	for _, name := range h.keyed() {
		values := r.Header.Values(name)
		part(name)
		part(strconv.Itoa(len(values)))
		for _, v := range values {
			part(v)
		}
	}
	part(string(body))
	return "caddy-infer:" + h.Model + ":" + hex.EncodeToString(sum.Sum(nil))
}

func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == "application/json"
}

// has says whether a header names one of the directives.
func has(header http.Header, name string, directives ...string) bool {
	for _, line := range header.Values(name) {
		for d := range strings.SplitSeq(line, ",") {
			d, _, _ = strings.Cut(strings.TrimSpace(d), "=")
			if slices.ContainsFunc(directives, func(x string) bool { return strings.EqualFold(x, d) }) {
				return true
			}
		}
	}
	return false
}
