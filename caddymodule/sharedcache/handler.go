// Package sharedcache keeps answers in Redis, for all gateways that share it.
package sharedcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() { caddy.RegisterModule(new(Handler)) }

// Handler answers a POST of JSON that was answered before from Redis, whichever
// gateway had it answered, and lets equal requests that come at the same time be
// answered by one.
//
// What is kept: answers of 200 that are complete, have at most MaxAnswer bytes,
// no Set-Cookie, no Cache-Control of no-store or private, and no Vary by headers
// that are not part of the key; never those of a fallback. They are kept by Model
// and a SHA-256 of path, query, body and the headers of the request that answers
// may depend on: Accept, Accept-Language, Authorization, Content-Encoding,
// Content-Type, Cookie and those of Headers. Requests that have another method or
// type, or a larger body, pass.
//
// Redis can only help: it has Timeout for each command, and one that fails is
// left alone for a second. It need not be there when Caddy starts.
//
// Cache-Status (RFC 9211) says what happened: `caddy-infer; hit`, `…; hit;
// detail=collapsed` for an answer that was just being made, or `…; fwd=miss`.
type Handler struct {
	// Address of Redis, host:port.
	Address string `json:"address,omitempty"`

	// Username and Password of Redis; placeholders such as {env.REDIS_PASSWORD}
	// are replaced when the configuration loads.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// Database of Redis. Default: 0.
	Database int `json:"database,omitempty"`

	// Model names what answers, and its version: with another one, nothing that
	// was kept before is found. Placeholders are replaced when the configuration
	// loads.
	Model string `json:"model,omitempty"`

	// TTL is how long an answer is kept. Default: 1h.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// MaxBody and MaxAnswer are the largest request and answer, in bytes, that
	// are looked at. Default: 1 MiB each.
	MaxBody   int64 `json:"max_body,omitempty"`
	MaxAnswer int64 `json:"max_answer,omitempty"`

	// Headers of requests, beside the usual ones, that answers depend on.
	Headers []string `json:"headers,omitempty"`

	// Timeout of a command to Redis. Default: 50ms.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	store   *store
	logger  *zap.Logger
	mu      sync.Mutex
	flights map[string]*flight
}

// The limits that a handler has unless it is told otherwise.
const (
	defaultTTL     = time.Hour
	defaultMax     = 1 << 20
	defaultTimeout = 50 * time.Millisecond
)

// cacheName is this cache's in Cache-Status.
const cacheName = "caddy-infer"

// requests outlives configurations, of which each has a registry of its own.
var requests = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: "caddy", Subsystem: "shared_cache", Name: "requests_total",
	Help: "Requests by what the shared cache had for them: hit, collapsed, miss, or bypass.",
}, []string{"outcome"})

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.shared_cache",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision prepares the connections; it does not wait for Redis.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.logger = ctx.Logger()
	h.flights = make(map[string]*flight)
	if h.TTL == 0 {
		h.TTL = caddy.Duration(defaultTTL)
	}
	if h.MaxBody == 0 {
		h.MaxBody = defaultMax
	}
	if h.MaxAnswer == 0 {
		h.MaxAnswer = defaultMax
	}
	if h.Timeout == 0 {
		h.Timeout = caddy.Duration(defaultTimeout)
	}
	repl := caddy.NewReplacer()
	for _, s := range []*string{&h.Address, &h.Username, &h.Password, &h.Model} {
		*s = repl.ReplaceAll(*s, "")
	}
	if err := h.check(); err != nil {
		return err
	}
	err := ctx.GetMetricsRegistry().Register(requests)
	if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
		return err
	}
	h.store = newStore(h)
	return nil
}

// check says what no cache could do.
func (h *Handler) check() error {
	switch {
	case h.Address == "":
		return errors.New("shared_cache: the address of Redis is missing: `shared_cache 10.0.0.20:6379`")
	case h.Model == "":
		return errors.New("shared_cache: model is missing: name what answers and its version, such as `model raner-1`, and change it with the model, or old answers stay")
	case h.TTL < 0 || time.Duration(h.TTL) < time.Second:
		return fmt.Errorf("shared_cache: ttl %v: give a second or more", time.Duration(h.TTL))
	case h.MaxBody < 0 || h.MaxAnswer < 0:
		return errors.New("shared_cache: max_body and max_answer must be above zero")
	case h.Timeout < 0:
		return fmt.Errorf("shared_cache: timeout %v: give a duration above zero", time.Duration(h.Timeout))
	case h.Database < 0:
		return fmt.Errorf("shared_cache: database %d: give 0 or more", h.Database)
	}
	return nil
}

// Cleanup waits for what is being written, and ends the connections.
func (h *Handler) Cleanup() error {
	if h.store == nil {
		return nil
	}
	return h.store.close()
}

// ServeHTTP answers from Redis, or lets the next handler answer.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	body, ok, err := h.body(r)
	if err != nil {
		return err
	}
	if !ok {
		requests.WithLabelValues("bypass").Inc()
		return next.ServeHTTP(w, r)
	}
	key := h.key(r, body)
	f, leads := h.join(r.Context(), key)
	if leads {
		return h.lead(f, key, w, r, next, body)
	}
	a := f.wait(r.Context())
	if a == nil {
		// It has failed or is not to be kept: that is another request's answer.
		requests.WithLabelValues("miss").Inc()
		return next.ServeHTTP(w, r)
	}
	requests.WithLabelValues("collapsed").Inc()
	return a.write(w, cacheName+"; hit; detail=collapsed")
}

// body reads a request that may be kept. Whatever was read can be read again.
func (h *Handler) body(r *http.Request) (body []byte, ok bool, err error) {
	if r.Method != http.MethodPost || !isJSON(r.Header.Get("Content-Type")) || r.ContentLength > h.MaxBody || r.Body == nil ||
		r.Header.Get("Upgrade") != "" || has(r.Header, "Cache-Control", "no-store", "no-cache") {
		return nil, false, nil
	}
	body, err = io.ReadAll(io.LimitReader(r.Body, h.MaxBody+1))
	rest := r.Body
	if int64(len(body)) > h.MaxBody {
		r.Body = readCloser{io.MultiReader(bytes.NewReader(body), rest), rest}
		return nil, false, nil
	}
	if err != nil {
		return nil, false, caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading the request's body: %w", err))
	}
	r.Body = readCloser{bytes.NewReader(body), rest}
	return body, true, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// lead answers for all who have joined meanwhile.
func (h *Handler) lead(f *flight, key string, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, body []byte) error {
	// If it comes to nothing, or panics, nobody waits for ever.
	alone := func() { h.leave(key, f); f.finish(nil) }
	listed := true
	defer func() {
		if listed {
			alone()
		}
		f.cancel()
	}()
	defer context.AfterFunc(r.Context(), f.firstLeft)()

	if kept := h.store.get(f.ctx, key); kept != nil {
		requests.WithLabelValues("hit").Inc()
		f.finish(kept)
		return kept.write(w, cacheName+"; hit")
	}
	requests.WithLabelValues("miss").Inc()
	w.Header().Set("Cache-Status", cacheName+"; fwd=miss")
	recorder := &recorder{
		ResponseWriterWrapper: caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
		max:                   h.MaxAnswer, keyed: h.keyed(), refused: alone,
	}
	request := r.WithContext(f.ctx)
	request.Body = readCloser{bytes.NewReader(body), r.Body}
	if err := next.ServeHTTP(recorder, request); err != nil {
		return err
	}
	if a := recorder.answer(); a != nil {
		f.finish(a)
		// It stays listed until it is kept, so that nobody falls in between.
		listed = false
		h.store.set(key, a, func() { h.leave(key, f) })
	}
	return nil
}

// join returns the flight for the key, and whether it is a new one.
func (h *Handler) join(ctx context.Context, key string) (f *flight, leads bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.flights[key]; ok && f.join() {
		return f, false
	}
	f = newFlight(ctx)
	h.flights[key] = f
	return f, true
}

// leave takes the flight off the list.
func (h *Handler) leave(key string, f *flight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flights[key] == f {
		delete(h.flights, key)
	}
}

// usual are the headers that answers may depend on whatever the service.
var usual = []string{"Accept", "Accept-Language", "Authorization", "Content-Encoding", "Content-Type", "Cookie"}

// keyed are the headers that are part of the key.
func (h *Handler) keyed() []string { return slices.Concat(usual, h.Headers) }

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
