package inferhandler

import (
	"context"
	"errors"
	"net/http"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// healthTimeout bounds the forward pass of a health check.
const healthTimeout = 5 * time.Second

// healthAnswer has the keys of the articles' services, and what a gateway
// compares between nodes.
type healthAnswer struct {
	Status      string        `json:"status"`
	Service     string        `json:"service"`
	ModelLoaded bool          `json:"model_loaded"`
	Model       string        `json:"model"`
	ModelDigest string        `json:"model_digest"`
	Task        modeldir.Task `json:"task"`
	Engine      string        `json:"engine"`
	Timestamp   string        `json:"timestamp"` // RFC 3339, UTC
	Error       string        `json:"error,omitempty"`
}

func isHealthPath(p string) bool {
	switch path.Base(p) {
	case "health", "healthz", "api-health":
		return true
	}
	return false
}

func (h *Handler) serveHealth(w http.ResponseWriter, r *http.Request) error {
	info := h.model.Info() // the files may have been changed
	a := healthAnswer{
		Status:      "healthy",
		Service:     "caddy-infer",
		ModelLoaded: true,
		Model:       h.name,
		ModelDigest: info.Digest,
		Task:        h.info.Task,
		Engine:      info.Engine.Engine,
	}
	status := http.StatusOK
	if err := h.check(r.Context()); err != nil {
		if clientGone(r) {
			return caddyhttp.Error(statusClientClosed, context.Canceled)
		}
		status = http.StatusServiceUnavailable
		a.Status = "unhealthy"
		a.ModelLoaded = !errors.Is(err, inference.ErrReleased)
		a.Error = err.Error()
		h.logger.Warn("health check failed", zap.String("model", h.name), zap.Error(err))
	}
	a.Timestamp = time.Now().UTC().Format(time.RFC3339Nano)

	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, a); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	// For HEAD the server sends the headers and drops the body.
	return writeJSON(w, status, out)
}

// check runs a forward pass. The model shares one pass among checks that come
// together, so that somebody hammering the path costs no more than that.
func (h *Handler) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, healthTimeout,
		errors.New("the forward pass took longer than "+healthTimeout.String()))
	defer cancel()
	err := h.withModel(func(m model) error { return m.Check(ctx) })
	if errors.Is(err, context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}
