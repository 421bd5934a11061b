package nerhighlight

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/inferhandler"
	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// Annotate marks the entities of pages that pass.
//
// Not marked are scripts, styles, form fields, code, links' addresses, ruby, and
// what a page itself excepts by `translate="no"`, class `notranslate`,
// `contenteditable` or `data-ner="off"`. A page's Content-Security-Policy is
// obeyed and never changed: where it allows no style sheet of its own site, the
// marks have the browser's look.
type Annotate struct {
	// Model of this process: a name of the `inference` app, a built-in model
	// or a directory.
	Model string `json:"model,omitempty"`

	// Endpoint is, instead of a model, the address of a service that gets
	// `{"texts": […]}` by POST and answers in any shape that ner_highlight
	// reads.
	Endpoint string `json:"endpoint,omitempty"`

	// Request is the field that the endpoint takes its text from: `texts`
	// (default) and `inputs` get a list; `text` and `input` get one text in
	// each request, up to four requests at a time.
	Request string `json:"request,omitempty"`

	// Authenticated lets pages be sent to the endpoint whose requests had an
	// Authorization or Cookie header. Without it those pages pass as they are:
	// they may be meant for one reader only.
	Authenticated bool `json:"authenticated,omitempty"`

	// Timeout of one call of the model. Default: 1s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Budget is the time that one page may spend in the model; what is left of
	// it then passes unmarked. Default: 5s.
	Budget caddy.Duration `json:"budget,omitempty"`

	// MaxCalls of the model for one page. Default: 200.
	MaxCalls int `json:"max_calls,omitempty"`

	// Include names elements that are marked though they usually aren't: pre,
	// code, kbd, samp, button, …
	Include []string `json:"include,omitempty"`

	// Skip names more elements that are not marked, such as nav or footer.
	Skip []string `json:"skip,omitempty"`

	// Cache is how many paragraphs are remembered with their entities, so that
	// the model isn't asked again. Default: 10000; -1 for none.
	Cache int `json:"cache,omitempty"`

	// Stylesheet is the path under which this handler serves the look of the
	// marks; its requests must reach this handler. Default: /_ner/marks.css.
	Stylesheet string `json:"stylesheet,omitempty"`

	find    highlight.Find
	closers []func() error
	css     []byte
	cssTag  string
}

const (
	defaultTimeout    = time.Second
	defaultBudget     = 5 * time.Second
	defaultMaxCalls   = 200
	defaultCache      = 10000
	defaultStylesheet = "/_ner/marks.css"
)

// requestFields that an endpoint may take its texts from, and whether they
// hold a list.
var requestFields = map[string]bool{"texts": true, "inputs": true, "text": false, "input": false}

func (a *Annotate) provision(ctx caddy.Context, theme highlight.Theme) error {
	def := func(d *caddy.Duration, value time.Duration) {
		if *d == 0 {
			*d = caddy.Duration(value)
		}
	}
	def(&a.Timeout, defaultTimeout)
	def(&a.Budget, defaultBudget)
	if a.MaxCalls == 0 {
		a.MaxCalls = defaultMaxCalls
	}
	if a.Cache == 0 {
		a.Cache = defaultCache
	}
	if a.Stylesheet == "" {
		a.Stylesheet = defaultStylesheet
	}
	if a.Request == "" {
		a.Request = "texts"
	}
	a.css = []byte(highlight.MarkStyles(theme) + plainStyles)
	sum := sha256.Sum256(a.css)
	a.cssTag = hex.EncodeToString(sum[:6])

	switch {
	case (a.Model == "") == (a.Endpoint == ""):
		return errors.New("annotate: give either a model of this process or an endpoint")
	case a.Model != "":
		if err := a.useModel(ctx); err != nil {
			return err
		}
	default:
		if err := a.useEndpoint(); err != nil {
			return err
		}
	}
	if a.Cache > 0 {
		var err error
		if a.find, err = cached(a.find, a.Cache); err != nil {
			return err
		}
	}
	return nil
}

// plainStyles are for plain text that became a page.
const plainStyles = "pre.ner-plain { white-space: pre-wrap; overflow-wrap: anywhere; font: 1rem/1.8 ui-monospace, monospace; }\n"

func (a *Annotate) useModel(ctx caddy.Context) error {
	app, err := ctx.App("inference")
	if err != nil {
		return err
	}
	model, again, err := app.(*inferhandler.App).Acquire(a.Model)
	if err != nil {
		return fmt.Errorf("annotate: loading model %q: %w", a.Model, err)
	}
	a.closers = append(a.closers, model.Release)
	a.find = func(ctx context.Context, texts []string) ([][]highlight.Entity, error) {
		results, _, err := model.Predict(ctx, texts)
		if errors.Is(err, inference.ErrReleased) {
			// A page that is still on its way after a reload.
			m, err := again()
			if err != nil {
				return nil, err
			}
			defer func() { _ = m.Release() }()
			results, _, err = m.Predict(ctx, texts)
			return entitiesOf(results), err
		}
		return entitiesOf(results), err
	}
	if info := model.Info(); info.Task != modeldir.TokenClassification {
		return fmt.Errorf("annotate: model %q classifies whole texts (%s): give one that finds entities", a.Model, info.Task)
	}
	return nil
}

func entitiesOf(results []inference.Result) [][]highlight.Entity {
	found := make([][]highlight.Entity, len(results))
	for i, r := range results {
		for _, e := range r.Entities {
			found[i] = append(found[i], highlight.Entity{Start: e.Start, End: e.End, Label: e.Type, Score: e.Prob, HasScore: true})
		}
	}
	return found
}

func (a *Annotate) useEndpoint() error {
	u, err := url.Parse(a.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("annotate: endpoint %q is no address such as http://127.0.0.1:8080/predict", a.Endpoint)
	}
	list, ok := requestFields[a.Request]
	if !ok {
		return fmt.Errorf("annotate: request %q: use texts, inputs, text or input", a.Request)
	}
	e := newEndpoint(a.Endpoint, a.Request, list)
	a.closers = append(a.closers, e.close)
	a.find = e.find
	return nil
}

func (a *Annotate) validate() error {
	switch {
	case a.Timeout < 0 || a.Budget < 0:
		return errors.New("annotate: timeout and budget must be above zero")
	case a.MaxCalls < 0:
		return errors.New("annotate: max_calls must be above zero")
	case !strings.HasPrefix(a.Stylesheet, "/"):
		return fmt.Errorf("annotate: stylesheet %q is no path that begins with a slash", a.Stylesheet)
	}
	for _, name := range a.Include {
		if !highlight.Includable(strings.ToLower(name)) {
			return fmt.Errorf("annotate: include %q: what it holds is no running text, or is text already", name)
		}
	}
	return nil
}

func (a *Annotate) cleanup() error {
	errs := make([]error, len(a.closers))
	for i, c := range a.closers {
		errs[i] = c()
	}
	a.closers = nil
	return errors.Join(errs...)
}

// may tells whether the page of a request may be given to the model.
func (a *Annotate) may(r *http.Request) bool {
	return a.Model != "" || a.Authenticated || r.Header.Get("Authorization") == "" && r.Header.Get("Cookie") == ""
}

func (a *Annotate) options(r *http.Request) highlight.Options {
	set := func(names []string) map[string]bool {
		m := make(map[string]bool, len(names))
		for _, n := range names {
			m[strings.ToLower(n)] = true
		}
		return m
	}
	return highlight.Options{
		Find: a.find, MaxCalls: a.MaxCalls,
		Timeout: time.Duration(a.Timeout), Budget: time.Duration(a.Budget),
		Include: set(a.Include), Skip: set(a.Skip),
		Stylesheet: a.stylesheetURL(), Host: r.Host,
	}
}

// stylesheetURL changes when the styles do, so that they can be kept for ever.
func (a *Annotate) stylesheetURL() string { return a.Stylesheet + "?v=" + a.cssTag }

func (a *Annotate) serveStylesheet(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", fmt.Sprint(len(a.css)))
	h.Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == a.cssTag {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := w.Write(a.css)
	return err
}
