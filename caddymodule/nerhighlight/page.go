package nerhighlight

import (
	"html"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

// writePage takes a part of a page, decoded.
func (w *response) writePage(p []byte) (int, error) {
	switch {
	case w.marks != nil:
		return w.marks.Write(p)
	case w.fate != mark: // its charset is none that can be marked
		return w.ResponseWriter.Write(p)
	}
	w.kept.Write(p)
	if w.kept.Len() < highlight.SniffLength {
		return len(p), nil
	}
	return len(p), w.begin()
}

// begin finds the page's charset, and sends the header and what there is of the
// page.
func (w *response) begin() error {
	h := w.Header()
	start := w.kept.Bytes()
	charset, ok := highlight.DetectCharset(w.page.charset, start, w.page.format != highlight.FormatText)
	if !ok || len(start) == 0 {
		if len(start) > 0 {
			w.h.metrics.responses.WithLabelValues(w.form(), "charset").Inc()
		}
		if w.coding != "" {
			changed(h, w.h.tag)
		}
		return w.passKept()
	}
	a := w.h.Annotate
	o := a.options(w.r)
	o.Charset, o.Format = charset, w.page.format
	for _, policy := range h.Values("Content-Security-Policy") {
		o.Policy.Add(policy)
	}
	head := ""
	if w.page.format == highlight.FormatText {
		o.Stylesheet = ""
		head = "<!doctype html>\n<html>\n<head>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n" +
			"<link rel=\"stylesheet\" href=\"" + html.EscapeString(a.stylesheetURL()) + "\">\n</head>\n<body><pre class=\"ner-plain\">"
		h.Set("Content-Type", "text/html; charset="+charset.Name)
		h.Add("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	changed(h, w.h.tag)
	h.Add("Trailer", statsHeader)
	w.ResponseWriter.WriteHeader(w.status)
	if _, err := w.ResponseWriter.Write([]byte(head)); err != nil {
		return err
	}
	w.marks = highlight.NewRewriter(w.r.Context(), w.ResponseWriter, o)
	_, err := w.marks.Write(start)
	w.kept.Reset()
	return err
}

// endPage sends the rest of a page. One whose end is missing must not look as
// if it were whole.
func (w *response) endPage() error {
	if err := w.closePage(); err != nil {
		w.h.logger.Debug("a page could not be annotated to its end", zap.Error(err))
		panic(http.ErrAbortHandler)
	}
	if w.marks == nil {
		return nil
	}
	stats := w.marks.Stats()
	why := stats.Reason
	if why == "" {
		why = "ok"
	}
	m := w.h.metrics
	m.responses.WithLabelValues(w.form(), why).Inc()
	m.entities.Add(float64(stats.Entities))
	m.dropped.Add(float64(stats.Dropped))
	m.model.Observe(stats.Model.Seconds())
	w.Header().Set(statsHeader, stats.String())
	if c := w.h.logger.Check(zap.DebugLevel, "annotated a page"); c != nil {
		c.Write(zap.String("stats", stats.String()))
	}
	return nil
}

func (w *response) closePage() error {
	if w.decode != nil {
		if err := w.decode.Close(); err != nil {
			return err
		}
	}
	if w.marks == nil && w.fate == mark {
		if err := w.begin(); err != nil {
			return err
		}
	}
	if w.marks == nil {
		return nil
	}
	if err := w.marks.Close(); err != nil {
		return err
	}
	if w.page.format == highlight.FormatText {
		_, err := w.ResponseWriter.Write([]byte("</pre></body>\n</html>\n"))
		return err
	}
	return nil
}
