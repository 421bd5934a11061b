package inferhandler

import (
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler answers requests with a model in this process.
//
// POST, on whatever path the route matches, takes JSON in one of three forms:
//
// | Request | Answer |
// |---|---|
// | `{"text": "…"}` | entities: `{"text","output":[{"type","start","end","span","prob"}]}`; classification: `{"text","label","score","labels","scores"}` |
// | `{"texts": ["…", …]}` | `{"results":[…]}`, one of the above per text |
// | `{"inputs": "…"}` or `{"inputs": ["…", …]}`, with or without `parameters` | as Hugging Face's inference API |
//
// As application/x-ndjson the body may have any number of such objects, one on
// each line, and is answered by a line for each, in order, while it is still
// coming. The limits hold for each line; one that is bad or fails is answered by
// `{"error","status","line"}` and ends nothing. An `id` is echoed. Such a stream
// is read no faster than it is answered, waits while the model is overloaded,
// and lets other requests go first. When the process is to end, the lines that
// have been read are answered, and the last answer is an error that names the
// first line that was not.
//
// Positions count Unicode code points, the end is exclusive. Header
// `Server-Timing` splits the latency into queue, tokenize, run, decode and
// total; `X-Inference-Model` names the model, `X-Inference-Model-Digest`
// identifies the files of the one that answered.
//
// GET on a path that ends in `/health`, `/healthz` or `/api-health` runs a real
// forward pass and answers 200 with `"status":"healthy"`, or 503 with
// `"status":"unhealthy"` and the reason.
//
// GET on a path that ends in `/openapi.json` describes all that in OpenAPI.
//
// Errors are `{"error": "…"}`: 400 (no text, not JSON of these forms), 405, 413
// (body, text or number of texts over its limit), 415 (not JSON), 500 (the
// model failed), 503 with Retry-After (overloaded), 504 (no answer in time).
// They never repeat the text, nor do logs and metrics.
type Handler struct {
	// Model is a name of the `inference` app, or else a built-in model
	// (`builtin/ner-zh`) or a model directory, run with default options.
	Model string `json:"model,omitempty"`

	// MaxBody is the largest request body in bytes. Default: 1 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// MaxTexts is how many texts one request may bring. Default: 256.
	MaxTexts int `json:"max_texts,omitempty"`

	// Timeout is how long a request may take, queue included, before it is
	// answered 504. Default: 30s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Protocol that the handler speaks beside its own: `oip` mounts the Open
	// Inference Protocol v2 on the paths …/v2, …/v2/health/live,
	// …/v2/health/ready and …/v2/models/{model}[/versions/{version}] with
	// nothing, /ready or /infer behind. Its one input is the BYTES tensor "text"
	// of shape [n] or [n,1]; outputs are "entities" (BYTES [n], each a JSON array
	// as in "output" above), or "label" (BYTES [n]), "score" (FP64 [n]) and
	// "scores" (FP64 [n,labels]). The version is the begin of the digest. Inputs
	// may come as the binary tensor extension has them; outputs are JSON.
	Protocol string `json:"protocol,omitempty"`

	// RequestTimeout says how long a request has where that is less than
	// Timeout: a text with placeholders that gives seconds (0.5) or a duration
	// (500ms), or nothing. A request that will not have its turn in time is
	// refused at once, with 503 and Retry-After. Default:
	// {http.request.header.Request-Timeout}.
	RequestTimeout string `json:"request_timeout,omitempty"`

	// Priority says how urgent a request is: a text with placeholders that
	// gives a number from 0, the most urgent, to 7, or has u=N as the header
	// Priority of RFC 9218. Anything else is 3, and 7 for streams. Each step is
	// a head start of a second in the queue; when that is full, those whose turn
	// is last give way. Clients that are not trusted should not set it.
	Priority string `json:"priority,omitempty"`

	model   sharedModel
	info    inference.Info
	name    string // what logs, metrics and headers call the model
	metrics modelMetrics
	logger  *zap.Logger
	// reacquire opens the model again for a request that this handler is
	// still answering after its Cleanup.
	reacquire func() (sharedModel, error)
	exiting   func() bool // whether the process is to end
}

// The limits that a handler has unless it is told otherwise.
const (
	defaultMaxBody  = 1 << 20
	defaultMaxTexts = 256
	defaultTimeout  = 30 * time.Second
)

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.inference",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the model in the inference app, or loads it.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.setDefaults()
	if h.Model == "" {
		return fmt.Errorf("the inference handler has no model: give a name of the inference app, %s or a model directory", builtinRefs())
	}
	appModule, err := ctx.App("inference")
	if err != nil {
		return err
	}
	app := appModule.(*App)
	ref, opts, err := app.resolve(h.Model)
	if err != nil {
		return err
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering inference metrics: %w", err)
	}
	// A reference of its own, because the app may be cleaned up before the
	// last request of this handler has been answered.
	h.reacquire = func() (sharedModel, error) { return serve(h.Model, ref, opts) }
	m, err := h.reacquire()
	if err != nil {
		return fmt.Errorf("loading inference model %q: %w", h.Model, err)
	}
	h.use(m)
	if _, named := app.Models[h.Model]; !named { // the app tells of its own
		logReady(h.logger, h.Model, h.info)
	}
	return nil
}

func (h *Handler) setDefaults() {
	h.exiting = caddy.Exiting
	if h.MaxBody == 0 {
		h.MaxBody = defaultMaxBody
	}
	if h.MaxTexts == 0 {
		h.MaxTexts = defaultMaxTexts
	}
	if h.Timeout == 0 {
		h.Timeout = caddy.Duration(defaultTimeout)
	}
}

func (h *Handler) use(m sharedModel) {
	h.model = m
	h.info = m.Info()
	h.name = h.Model
	h.metrics = newModelMetrics(h.name)
}

// Validate rejects limits that no request could keep.
func (h *Handler) Validate() error {
	switch {
	case h.Protocol != "" && h.Protocol != protocolOIP:
		return fmt.Errorf("protocol %q: there is %s, the Open Inference Protocol", h.Protocol, protocolOIP)
	case h.MaxBody < 0:
		return fmt.Errorf("max_body %d: give a size above zero", h.MaxBody)
	case h.MaxTexts < 0:
		return fmt.Errorf("max_texts %d: give a number above zero", h.MaxTexts)
	case h.Timeout < 0:
		return fmt.Errorf("timeout %s: give a duration above zero", timeDuration(h.Timeout))
	}
	return nil
}

// Cleanup gives the model back.
func (h *Handler) Cleanup() error {
	if h.model == nil {
		return nil
	}
	return h.model.Release()
}

// ServeHTTP answers the request; the next handler is never called.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if h.Protocol == protocolOIP && isOIPPath(r.URL.Path) {
		return h.serveOIP(w, r)
	}
	switch r.Method {
	case http.MethodPost:
		return h.servePredict(w, r)
	case http.MethodGet, http.MethodHead:
		switch {
		case isHealthPath(r.URL.Path):
			return h.serveHealth(w, r)
		case isOpenAPIPath(r.URL.Path):
			return h.serveOpenAPI(w, r)
		}
	}
	allow := "POST"
	if isHealthPath(r.URL.Path) || isOpenAPIPath(r.URL.Path) {
		allow = "GET, HEAD, POST"
	}
	w.Header().Set("Allow", allow)
	return h.fail(w, r, &requestError{
		status:  http.StatusMethodNotAllowed,
		message: `send a POST with JSON such as {"text": "…"}`,
	})
}

// Answers tells whether the handler has more to say to such a request than that
// its method is wrong.
func (h *Handler) Answers(r *http.Request) bool {
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	return r.Method == http.MethodPost || get && isHealthPath(r.URL.Path)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
