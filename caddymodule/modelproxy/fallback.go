package modelproxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/caddymodule/inferhandler"
)

func init() { caddy.RegisterModule(new(Fallback)) }

// FallbackHeader names the model of this process that answered in the place of
// a node.
const FallbackHeader = "X-Caddy-Infer-Fallback"

// Fallback answers with a model of this process what the next handler, a
// reverse_proxy, could not: when it fails with 502, 503 or 504 before anything
// was sent to the client. It is the last resort of `model_proxy`.
//
// Nodes that are busy are not lost: with a queue that is full, with nodes at
// their max_requests, and after an answer of 429 or 503 with Retry-After, the
// client hears that, and the fallback stays out of it. Requests that the
// inference handler does not answer, and bodies over 8 MiB, get the error.
//
// Its answers have the header X-Caddy-Infer-Fallback with the model's name, and
// are counted in caddy_gpu_fallback_total{model}.
type Fallback struct {
	// The model: a name of the `inference` app, or else a built-in one or a
	// directory.
	Model string `json:"model,omitempty"`

	// Answer only requests of which no node was sent anything, for endpoints
	// that must run at most once.
	UnsentOnly bool `json:"unsent_only,omitempty"`

	handler   inferhandler.Handler
	answered  prometheus.Counter
	logger    *zap.Logger
	answering atomic.Bool // no node is left, as far as the last request tells
}

// fallbacks outlives configurations, of which each has a registry of its own.
var fallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "caddy", Subsystem: "gpu", Name: "fallback_total",
	Help: "Requests answered by a model of this process because no node was left.",
}, []string{"model"})

// CaddyModule returns the Caddy module information.
func (*Fallback) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.model_fallback",
		New: func() caddy.Module { return new(Fallback) },
	}
}

// Provision loads the model, so that it is there when it is needed.
func (f *Fallback) Provision(ctx caddy.Context) error {
	f.logger = ctx.Logger()
	f.handler.Model = f.Model
	f.handler.MaxBody = bodyLimit
	if err := f.handler.Provision(ctx); err != nil {
		return fmt.Errorf("fallback: %w", err)
	}
	err := ctx.GetMetricsRegistry().Register(fallbacks)
	if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
		return err
	}
	f.answered = fallbacks.WithLabelValues(f.Model)
	return nil
}

// Cleanup gives the model back.
func (f *Fallback) Cleanup() error { return f.handler.Cleanup() }

// ServeHTTP passes the request on, and answers it if that fails for want of
// nodes.
func (f *Fallback) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !f.handler.Answers(r) {
		return next.ServeHTTP(w, r)
	}
	kept := &keptBody{ReadCloser: r.Body}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = kept
	}
	begun := &begunWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	err := next.ServeHTTP(begun, r)
	if err == nil {
		if begun.begun && f.answering.CompareAndSwap(true, false) {
			f.logger.Info("a node answers again", zap.String("model", f.Model))
		}
		return nil
	}
	if begun.begun || !f.lost(w, r, err) {
		return err
	}
	again := *r
	if r.Body == kept {
		whole, ok := kept.take()
		if !ok {
			return err
		}
		again.Body = whole
	}
	if f.answering.CompareAndSwap(false, true) {
		f.logger.Warn("no node is left: a model of this process answers", zap.String("model", f.Model), zap.Error(err))
	}
	f.answered.Inc()
	w.Header().Set(FallbackHeader, f.Model)
	return f.handler.ServeHTTP(w, &again, next)
}

// lost tells whether the error means that no node is left for the request.
func (f *Fallback) lost(w http.ResponseWriter, r *http.Request, err error) bool {
	failure, ok := errors.AsType[caddyhttp.HandlerError](err)
	if !ok || r.Context().Err() != nil || w.Header().Get("Retry-After") != "" {
		return false
	}
	switch failure.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return false
	}
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if repl != nil {
		if busy, ok := repl.Get(gpupolicy.PlaceholderBusy); ok && busy == true {
			return false
		}
	}
	if !f.UnsentOnly {
		return true
	}
	// reverse_proxy's own 503 says that there was no upstream to send to.
	_, dialing := errors.AsType[reverseproxy.DialError](err)
	return dialing || failure.StatusCode == http.StatusServiceUnavailable
}

// keptBody keeps what is read of a body. A transport that failed may still be
// reading, so whoever wants what was kept takes it.
type keptBody struct {
	io.ReadCloser

	mu      sync.Mutex
	buf     bytes.Buffer
	reading bool
	over    bool // more was read than is kept
	taken   bool
}

var errTaken = errors.New("the request's body is for the fallback now")

func (b *keptBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.taken {
		b.mu.Unlock()
		return 0, errTaken
	}
	b.reading = true
	b.mu.Unlock()

	n, err := b.ReadCloser.Read(p)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	switch {
	case b.over || b.taken:
	case b.buf.Len()+n > bodyLimit:
		b.over = true
		b.buf = bytes.Buffer{}
	default:
		b.buf.Write(p[:n])
	}
	return n, err
}

// take returns the whole body, from its beginning, if it can be had: ok is
// false when it is too long, or somebody is reading.
func (b *keptBody) take() (whole io.ReadCloser, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken || b.over || b.reading {
		return nil, false
	}
	b.taken = true
	return io.NopCloser(io.MultiReader(bytes.NewReader(b.buf.Bytes()), b.ReadCloser)), true
}

// Close leaves the body open for the fallback; the server closes it.
func (b *keptBody) Close() error { return nil }

// begunWriter knows whether the response has begun.
type begunWriter struct {
	*caddyhttp.ResponseWriterWrapper
	begun bool
}

func (w *begunWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begun = true
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *begunWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom keeps the fast path of the writer below.
func (w *begunWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begun = true
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Fallback)(nil)
	_ caddy.CleanerUpper          = (*Fallback)(nil)
	_ caddyhttp.MiddlewareHandler = (*Fallback)(nil)
)
