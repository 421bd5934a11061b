// Package nerhighlight makes what text models say readable: the
// http.handlers.ner_highlight module turns their JSON answers into HTML for
// clients that prefer it, and marks entities in pages that pass.
package nerhighlight

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler makes the answers of the handlers after it readable.
//
// An answer of 200 in JSON with entities or classes, in any of the shapes of
// ModelScope, Hugging Face, spaCy, HanLP, PaddleNLP, Gradio and others, becomes
// an HTML page if the client prefers text/html to application/json in its
// Accept header, as browsers do. The query parameter `highlight` forces the
// form:
//
// | `?highlight=` | Answer |
// |---|---|
// | `page` | a page that stands alone |
// | `fragment` | the marked text, legend and list, to be put into another page |
// | `json` | the JSON as it came |
//
// What is no such answer passes as it came: errors, other JSON, answers over
// max_body. So does everything with `Cache-Control: no-transform`. Entities
// whose place in the text does not follow from the answer are left out and
// counted, never guessed. The header X-Ner tells how many there are.
//
// With annotate, GET requests for HTML pages (and for plain text, for clients
// that prefer HTML) come back with their entities marked. The page streams on
// as its paragraphs finish; apart from the marks, and a link to their style
// sheet, its bytes are those that came; and on any failure of the model they
// are all that comes. The trailer X-Ner tells what was done. Only pages in an
// encoding in which ASCII means ASCII are marked.
//
// Put it after `encode`: answers are read as identity, gzip or zstd, and passed
// on uncompressed where they were changed.
type Handler struct {
	// Theme of pages and marks: `auto` (default: as the reader's system; on
	// annotated pages, whose background is not known, light), `neon` or
	// `light`.
	Theme highlight.Theme `json:"theme,omitempty"`

	// MaxBody is the largest answer in bytes that is turned into HTML, and the
	// largest request body that is searched for its texts, which not all
	// services repeat in their answers. Default: 1 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// Annotate marks entities in pages.
	Annotate *Annotate `json:"annotate,omitempty"`

	tag     string // the end of our entity tags
	metrics *counters
	logger  *zap.Logger
}

const defaultMaxBody = 1 << 20

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ner_highlight",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision opens the model.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	if h.Theme == "" {
		h.Theme = highlight.ThemeAuto
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	var err error
	if h.metrics, err = registered(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering ner_highlight metrics: %w", err)
	}
	h.tag = entityTagSuffix(string(h.Theme))
	if h.Annotate != nil {
		return h.Annotate.provision(ctx, h.Theme)
	}
	return nil
}

// Validate rejects what no answer could satisfy.
func (h *Handler) Validate() error {
	if !slices.Contains(highlight.Themes(), h.Theme) {
		return fmt.Errorf("theme %q: use auto, neon or light", h.Theme)
	}
	if h.MaxBody < 0 {
		return fmt.Errorf("max_body %d: give a size above zero", h.MaxBody)
	}
	if h.Annotate != nil {
		return h.Annotate.validate()
	}
	return nil
}

// Cleanup gives the model back.
func (h *Handler) Cleanup() error {
	if h.Annotate != nil {
		return h.Annotate.cleanup()
	}
	return nil
}

// ServeHTTP lets the next handler answer, and makes that readable.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	a := h.Annotate
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	if a != nil && r.URL.Path == a.Stylesheet && get {
		return a.serveStylesheet(w, r)
	}
	wish := wishOf(r)
	if wish == wishJSON || r.Method == http.MethodConnect || r.Header.Get("Upgrade") != "" {
		return next.ServeHTTP(w, r)
	}
	out := &response{
		ResponseWriter: w, h: h, r: r, wish: wish,
		annotate: a != nil && get && a.may(r),
	}
	if wish == wishNothing && !out.annotate {
		// Only a cache must learn that others are answered otherwise.
		return next.ServeHTTP(out, r)
	}
	defer out.stop()
	asked := out.request()
	if err := next.ServeHTTP(out, asked); err != nil {
		return err
	}
	return out.finish()
}

// wish is the form that a client wants an answer in.
type wish int

const (
	wishNothing  wish = iota // the answer as it comes
	wishJSON                 // it, and no page annotated
	wishPage                 // HTML
	wishFragment             // HTML without head and body
)

func wishOf(r *http.Request) wish {
	if strings.Contains(r.URL.RawQuery, "highlight=") {
		switch r.URL.Query().Get("highlight") {
		case "json":
			return wishJSON
		case "page":
			return wishPage
		case "fragment":
			return wishFragment
		}
	}
	if prefersHTML(r.Header.Values("Accept")) {
		return wishPage
	}
	return wishNothing
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
