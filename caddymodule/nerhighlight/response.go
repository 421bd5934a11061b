package nerhighlight

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

// response is what the next handler answers into. It decides by the header
// what becomes of the body: it passes, it is kept to be rendered in the end, or
// it streams through a Rewriter.
//
// It embeds the interface, so that nothing but its own methods can write past
// it; http.ResponseController reaches the rest by Unwrap.
type response struct {
	http.ResponseWriter

	h        *Handler
	r        *http.Request
	wish     wish
	annotate bool
	ours     bool // the client has a form of ours, by its If-None-Match
	sent     *sentBody

	status int // 0: no header yet
	fate   fate
	kept   bytes.Buffer // of an answer, or the beginning of a page
	page   pageType
	coding string
	decode *highlight.Pull     // takes the page as it comes, nil if uncompressed
	marks  *highlight.Rewriter // nil until the charset is known
}

// fate of a body.
type fate int

const (
	pass fate = iota
	render
	mark
)

type pageType struct {
	format  highlight.Format
	charset string // declared
}

// request is what the next handler is to answer: its answer must be one that
// we can read, and of the form that the client's tags are of.
func (w *response) request() *http.Request {
	r := *w.r
	r.Header = r.Header.Clone()
	restrictEncodings(r.Header)
	forced := strings.Contains(w.r.URL.RawQuery, "highlight=")
	before := r.Header.Get("If-None-Match")
	untagged(r.Header, w.h.tag, !forced)
	w.ours = strings.Contains(before, w.h.tag+`"`)
	if w.wish != wishNothing && r.Body != nil && r.Body != http.NoBody {
		w.sent = &sentBody{ReadCloser: r.Body, limit: int(w.h.MaxBody)}
		r.Body = w.sent
	}
	return &r
}

// WriteHeader decides what becomes of the body.
func (w *response) WriteHeader(status int) {
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status != 0 {
		return
	}
	w.status = status
	if w.fate = w.decide(); w.fate == pass {
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *response) decide() fate {
	h := w.Header()
	if w.status == http.StatusNotModified && w.ours {
		if etag := tagged(h.Get("ETag"), w.h.tag); etag != "" {
			h.Set("ETag", etag)
		}
		return pass
	}
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || w.status != http.StatusOK || noTransform(h) {
		return pass
	}
	if media == "application/json" || strings.HasSuffix(media, "+json") {
		addVary(h, "Accept")
		if w.wish == wishNothing {
			return pass
		}
		if w.r.Method == http.MethodHead {
			changed(h, w.h.tag)
			h.Set("Content-Type", htmlType)
			return pass
		}
		return render
	}
	if !w.annotate {
		return pass
	}
	switch media {
	case "text/html":
		w.page.format = highlight.FormatHTML
	case "application/xhtml+xml":
		w.page.format = highlight.FormatXHTML
	case "text/plain":
		addVary(h, "Accept")
		if w.wish == wishNothing {
			return pass
		}
		w.page.format = highlight.FormatText
	default:
		return pass
	}
	w.page.charset = params["charset"]
	w.coding = strings.ToLower(h.Get("Content-Encoding"))
	if _, ok := decoders[w.coding]; !ok {
		return pass
	}
	if w.r.Method == http.MethodHead {
		changed(h, w.h.tag)
		return pass
	}
	if w.coding != "" {
		w.decode = highlight.NewPull(func(r io.Reader) error {
			return decodeInto(writerFunc(w.writePage), r, w.coding)
		})
	}
	return mark
}

// Write takes a part of the body.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.fate == render:
		if int64(w.kept.Len()+len(p)) <= w.h.MaxBody {
			return w.kept.Write(p)
		}
		w.h.metrics.responses.WithLabelValues(w.form(), "too_large").Inc()
		if err := w.passKept(); err != nil {
			return 0, err
		}
	case w.decode != nil:
		return w.decode.Write(p)
	case w.fate == mark:
		return w.writePage(p)
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps what the server can do for bodies that pass: send files
// without copying them.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if from, ok := w.ResponseWriter.(io.ReaderFrom); ok && w.fate == pass {
		return from.ReadFrom(r)
	}
	return io.Copy(writerFunc(w.Write), r)
}

// FlushError passes on what can be by now.
func (w *response) FlushError() error {
	switch {
	case w.fate == render && w.status != 0:
		return nil // there is nothing to be read before its end
	case w.fate == mark && w.marks == nil:
		if w.kept.Len() == 0 {
			return nil // the header alone: what is to be marked comes after it
		}
		if w.page.charset == "" && !bytes.Contains(w.kept.Bytes(), []byte("charset")) {
			return nil // what the page is in is not known yet
		}
		if err := w.begin(); err != nil {
			return err
		}
	}
	if w.marks != nil {
		if err := w.marks.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// passKept gives up on rendering: the body is passed on as it came.
func (w *response) passKept() error {
	w.fate = pass
	w.ResponseWriter.WriteHeader(w.status)
	_, err := w.ResponseWriter.Write(w.kept.Bytes())
	w.kept = bytes.Buffer{}
	return err
}

// finish ends the answer after the next handler has.
func (w *response) finish() error {
	if w.status == 0 {
		return nil // the server will say something
	}
	switch w.fate {
	case render:
		return w.renderKept()
	case mark:
		return w.endPage()
	default:
		return nil
	}
}

// stop frees what an answer holds that has no end.
func (w *response) stop() {
	if w.decode != nil {
		w.decode.Stop()
	}
	if w.marks != nil {
		w.marks.Stop()
	}
}

const htmlType = "text/html; charset=utf-8"

// form is for metrics.
func (w *response) form() string {
	switch {
	case w.fate == mark:
		return "annotated"
	case w.wish == wishFragment:
		return "fragment"
	default:
		return "page"
	}
}

// renderKept turns an answer into HTML, or passes it on if that can't be done.
func (w *response) renderKept() error {
	docs, why := w.parseKept()
	w.h.metrics.responses.WithLabelValues(w.form(), why).Inc()
	if why != "ok" {
		return w.passKept()
	}
	h := w.Header()
	changed(h, w.h.tag)
	var body []byte
	if w.wish == wishFragment {
		body = highlight.Fragment(docs)
	} else {
		var policy string
		body, policy = highlight.Page(docs, w.h.Theme)
		h.Add("Content-Security-Policy", policy) // beside what there is
	}
	entities, dropped := 0, 0
	for _, d := range docs {
		entities += len(d.Entities)
		dropped += d.Dropped
	}
	w.h.metrics.entities.Add(float64(entities))
	w.h.metrics.dropped.Add(float64(dropped))
	h.Set("Content-Type", htmlType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	h.Set(statsHeader, fmt.Sprintf("entities=%d;dropped=%d", entities, dropped))
	w.ResponseWriter.WriteHeader(w.status)
	_, err := w.ResponseWriter.Write(body)
	return err
}

// statsHeader tells what was done to a response.
const statsHeader = "X-Ner"

func (w *response) parseKept() (docs []highlight.Document, why string) {
	body := w.kept.Bytes()
	if coding := strings.ToLower(w.Header().Get("Content-Encoding")); coding != "" {
		plain := limitedBuffer{limit: int(w.h.MaxBody)}
		if err := decodeInto(&plain, bytes.NewReader(body), coding); err != nil {
			return nil, "unreadable"
		}
		body = plain.Bytes()
	}
	docs, err := highlight.Parse(body, w.texts())
	if err != nil || len(docs) == 0 {
		return nil, "unknown"
	}
	return docs, "ok"
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
