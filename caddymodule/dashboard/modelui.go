// Package dashboard serves the pages of caddy-infer: embedded, without a CDN,
// usable behind any prefix.
package dashboard

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(ModelUI))
}

// ModelUI is a page to try a model: it sends what the user types to the model's
// public HTTP API and shows the entities or the sentiment found.
//
// The handler answers requests for the page and its assets and passes all others
// on, so that the API can be served by the handlers after it: an `inference`
// handler in this process or a `reverse_proxy` to nodes.
//
// The page addresses everything relative to itself. It works unchanged behind a
// gateway, and under a prefix that a gateway strips, as long as the address the
// browser sees ends with a slash.
type ModelUI struct {
	// Where the page is mounted. Default "/". A request for the path without its
	// final slash is redirected.
	Path string `json:"path,omitempty"`

	// The path of the model's API on the same site: it must accept a POST of
	// {"text": "…"}. Default "/predict". Other sites are refused, since the
	// page's content security policy lets no request leave the origin.
	API string `json:"api,omitempty"`

	// The heading of the page. The default names the task in the reader's language.
	Title string `json:"title,omitempty"`

	// What the model does: "ner", "sentiment" or "auto" (default). It chooses
	// the title and the examples; what is shown always follows the answer.
	Task string `json:"task,omitempty"`

	// Further models of the same site. The page lets the reader switch between
	// all of them; what was typed stays.
	Also []OtherModel `json:"also,omitempty"`

	// Texts to try, in place of the built-in Chinese sentences.
	Examples []string `json:"examples,omitempty"`

	// How many characters (code points) a text may have. The page counts against
	// it and says so before it asks. Default: no limit but the model's own, whose
	// answer 413 is shown. This is advice to the reader and guards nothing.
	MaxChars int `json:"max_chars,omitempty"`

	pages map[string]document // by language
}

// OtherModel is a model that the page offers beside the first.
type OtherModel struct {
	// The path of its API on the same site, as in `api`.
	API string `json:"api"`

	// What it does: "ner" or "sentiment", which is also its name on the page.
	Task string `json:"task"`
}

// CaddyModule returns the Caddy module information.
func (*ModelUI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.model_ui",
		New: func() caddy.Module { return new(ModelUI) },
	}
}

// Provision fills in the defaults and renders the page in every language.
func (m *ModelUI) Provision(caddy.Context) error {
	m.fillDefaults()
	// The page can only be rendered from settings that make sense.
	if err := m.Validate(); err != nil {
		return err
	}
	m.pages = make(map[string]document, len(translations))
	for lang := range translations {
		page, err := renderPage(m, lang)
		if err != nil {
			return fmt.Errorf("rendering the %s page of model_ui: %w", lang, err)
		}
		m.pages[lang] = page
	}
	return nil
}

func (m *ModelUI) fillDefaults() {
	if m.Path == "" {
		m.Path = "/"
	}
	if !strings.HasSuffix(m.Path, "/") {
		m.Path += "/"
	}
	if m.API == "" {
		m.API = "/predict"
	}
	if m.Task == "" {
		m.Task = "auto"
	}
}

// Validate reports settings the page can't work with.
func (m *ModelUI) Validate() error {
	if !strings.HasPrefix(m.Path, "/") || path.Clean(m.Path) != strings.TrimSuffix(m.Path, "/") && m.Path != "/" {
		return fmt.Errorf("checking model_ui: path %q must start with a slash and have no empty or dot segments", m.Path)
	}
	if strings.ContainsAny(m.Path, "*?#{}") {
		return fmt.Errorf("checking model_ui: path %q must be a plain path, without wildcard, query or placeholder", m.Path)
	}
	if err := validateAPI(m.API); err != nil {
		return err
	}
	switch m.Task {
	case "auto", "ner", "sentiment":
	default:
		return fmt.Errorf("checking model_ui: unknown task %q; use auto, ner or sentiment", m.Task)
	}
	tasks := map[string]bool{m.Task: true}
	for _, other := range m.Also {
		if err := validateAPI(other.API); err != nil {
			return err
		}
		if other.Task != "ner" && other.Task != "sentiment" {
			return fmt.Errorf("checking model_ui: unknown task %q of the further model %s; use ner or sentiment", other.Task, other.API)
		}
		if tasks[other.Task] || m.Task == "auto" {
			return fmt.Errorf("checking model_ui: with further models each needs a task of its own, since readers choose by it; %s has %q beside %q", other.API, other.Task, m.Task)
		}
		tasks[other.Task] = true
	}
	if m.MaxChars < 0 {
		return fmt.Errorf("checking model_ui: max_chars %d: give a number above zero", m.MaxChars)
	}
	return nil
}

func validateAPI(api string) error {
	parsed, err := url.Parse(api)
	if err != nil {
		return fmt.Errorf("checking model_ui: parsing api %q: %w", api, err)
	}
	if parsed.Scheme != "" || parsed.Host != "" || !strings.HasPrefix(parsed.Path, "/") || parsed.Fragment != "" {
		return fmt.Errorf("checking model_ui: api %q must be a path on the same site, such as /predict; to use a model elsewhere, proxy that path to it", api)
	}
	return nil
}

// ServeHTTP answers requests for the page and its assets and passes on the rest.
func (m *ModelUI) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if m.Path != "/" && r.URL.Path == strings.TrimSuffix(m.Path, "/") && isRead(r) {
		redirectToSlash(w, r)
		return nil
	}
	requested := r.URL.Path
	if requested == "" { // what handle_path leaves of its own prefix
		requested = "/"
	}
	rest, ok := strings.CutPrefix(requested, m.Path)
	if !ok {
		return next.ServeHTTP(w, r)
	}
	if rest == "" {
		return m.servePage(w, r, next)
	}
	asset, ok := assets[rest]
	if !ok {
		return next.ServeHTTP(w, r)
	}
	if !isRead(r) {
		return methodNotAllowed(w)
	}
	serve(w, r, asset)
	return nil
}

func (m *ModelUI) servePage(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !isRead(r) {
		if m.API == m.Path { // page and API share the path, told apart by the method
			return next.ServeHTTP(w, r)
		}
		return methodNotAllowed(w)
	}
	// Where an outer handle_path has stripped "/x", relative addresses on the
	// page need the browser to be at "/x/".
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok &&
		!strings.HasSuffix(original.URL.Path, "/") {
		redirectToSlash(w, &original)
		return nil
	}
	w.Header().Add("Vary", "Accept-Language")
	w.Header().Set("Content-Security-Policy", contentSecurityPolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	lang := language(r)
	w.Header().Set("Content-Language", lang)
	serve(w, r, m.pages[lang])
	return nil
}

// contentSecurityPolicy lets the page load its own assets and call its own site,
// nothing else; there is no inline script or style to make an exception for.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

func isRead(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

func methodNotAllowed(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD")
	return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
}

// redirectToSlash adds the final slash. The Location is relative because only
// the last segment of the path is known to be the one the browser sees.
func redirectToSlash(w http.ResponseWriter, r *http.Request) {
	location := "./" + url.PathEscape(path.Base(r.URL.Path)) + "/"
	if r.URL.RawQuery != "" {
		location += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusPermanentRedirect)
}

// serve answers with a document or 304. Documents must be revalidated each time:
// behind a gateway the next request may reach a node with another version, and
// a page with the wrong script is worse than a round trip.
func serve(w http.ResponseWriter, r *http.Request, d document) {
	h := w.Header()
	h.Set("Content-Type", d.contentType)
	h.Set("ETag", d.etag)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(d.body))
}

// Interface guards
var (
	_ caddy.Provisioner           = (*ModelUI)(nil)
	_ caddy.Validator             = (*ModelUI)(nil)
	_ caddyhttp.MiddlewareHandler = (*ModelUI)(nil)
)
