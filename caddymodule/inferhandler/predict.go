package inferhandler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/batch"
	"github.com/caddy-infer/caddy-infer/internal/ndjson"
)

// statusClientClosed is nginx's code, and Caddy's, for a client that left
// before its answer.
const statusClientClosed = 499

// maxPooledBuffer keeps one huge request from pinning its memory.
const maxPooledBuffer = 1 << 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func putBuffer(b *bytes.Buffer) {
	if b.Cap() > maxPooledBuffer {
		return
	}
	b.Reset()
	buffers.Put(b)
}

func (h *Handler) servePredict(w http.ResponseWriter, r *http.Request) error {
	if ndjson.Is(r.Header) {
		return h.serveStream(w, r)
	}
	started := time.Now()
	s, err := h.schedule(r, inference.DefaultUrgency)
	if err != nil {
		return h.fail(w, r, err)
	}
	req, err := h.readRequest(w, r)
	if err != nil {
		return h.fail(w, r, err)
	}
	ctx, cancel := s.context(r.Context())
	defer cancel()
	results, stats, err := h.predict(ctx, req.texts)
	if err != nil {
		return h.fail(w, r, s.explain(err))
	}

	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, answer(req, h.info.Task, results)); err != nil {
		return h.fail(w, r, fmt.Errorf("encoding the answer: %w", err))
	}
	h.answered(w.Header(), stats, time.Since(started), len(req.texts))
	return writeJSON(w, http.StatusOK, out)
}

// answered counts an answer, and tells in its header and in the log how it came
// about.
func (h *Handler) answered(header http.Header, stats inference.Stats, total time.Duration, texts int) {
	h.metrics.answered(stats)
	if c := h.logger.Check(zap.DebugLevel, "answered"); c != nil {
		c.Write(zap.String("model", h.name), zap.Int("texts", texts),
			zap.Int("windows", stats.Windows), zap.Int("tokens", stats.Tokens),
			zap.Int("batch_size", stats.BatchSize), zap.Duration("duration", total))
	}
	header.Set("Server-Timing", serverTiming(stats, total))
	header.Set("X-Inference-Model", h.name)
	header.Set("X-Inference-Model-Digest", stats.Digest)
}

// predict asks the handler's model.
func (h *Handler) predict(ctx context.Context, texts []string) (results []inference.Result, stats inference.Stats, err error) {
	err = h.withModel(func(m model) (err error) {
		results, stats, err = ask(ctx, m, texts)
		return err
	})
	return results, stats, err
}

// ask asks a model, and returns one result for each text.
func ask(ctx context.Context, m model, texts []string) ([]inference.Result, inference.Stats, error) {
	results, stats, err := m.Predict(ctx, texts)
	if err == nil && len(results) != len(texts) {
		err = fmt.Errorf("the model answered %d results for %d texts", len(results), len(texts))
	}
	return results, stats, err
}

// withModel calls f with the model. A request that Caddy still routes to this
// handler after a reload cleaned it up is answered all the same: by the loaded
// model when the new configuration has it too, else by loading it once more.
func (h *Handler) withModel(f func(model) error) error {
	err := f(h.model)
	if !errors.Is(err, inference.ErrReleased) || h.reacquire == nil {
		return err
	}
	again, err := h.reacquire()
	if err != nil {
		return err
	}
	return errors.Join(f(again), again.Release())
}

func (h *Handler) readRequest(w http.ResponseWriter, r *http.Request) (*request, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	body := getBuffer()
	defer putBuffer(body)
	if err := readBody(w, r, body, h.MaxBody); err != nil {
		return nil, err
	}
	return parseRequest(body.Bytes(), h.info.Task, h.MaxTexts)
}

// checkContentType lets JSON in UTF-8 pass. A request without the header
// passes too: minimal clients leave it out, and parsing decides anyway.
func checkContentType(header http.Header) error {
	unsupported := func(message string) error {
		return &requestError{http.StatusUnsupportedMediaType, message}
	}
	if e := header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return unsupported("send the body without Content-Encoding")
	}
	contentType := header.Get("Content-Type")
	if contentType == "" || contentType == "application/json" {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || !isJSON(mediaType) {
		return unsupported("send JSON with the header Content-Type: application/json")
	}
	switch strings.ToLower(params["charset"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return nil
	}
	return unsupported("send the JSON in UTF-8")
}

func isJSON(mediaType string) bool {
	return mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

// fail answers with an error, or with nothing when the client has gone.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) error {
	if clientGone(r) {
		h.metrics.failed(statusClientClosed)
		// Caddy's log gets the code; nobody is there to read a body.
		return caddyhttp.Error(statusClientClosed, context.Canceled)
	}
	status, message := h.judge(w.Header(), err)
	return writeError(w, status, message)
}

// judge turns an error into a status and the words for the client, sets
// Retry-After where it helps, counts it, and logs what is our fault.
func (h *Handler) judge(header http.Header, err error) (int, string) {
	status, message := explain(header, err)
	h.metrics.failed(status)
	if status == http.StatusInternalServerError {
		fields := []zap.Field{zap.String("model", h.name), zap.Error(err)}
		if p, ok := errors.AsType[*batch.PanicError](err); ok {
			fields = append(fields, zap.ByteString("stack", p.Stack))
		}
		h.logger.Error("inference failed", fields...)
	} else if c := h.logger.Check(zap.DebugLevel, "refused"); c != nil {
		c.Write(zap.String("model", h.name), zap.Int("status", status), zap.String("reason", message))
	}
	return status, message
}

func clientGone(r *http.Request) bool { return errors.Is(r.Context().Err(), context.Canceled) }

func explain(header http.Header, err error) (int, string) {
	if e, ok := errors.AsType[*requestError](err); ok {
		return e.status, e.message
	}
	if e, ok := errors.AsType[*inference.TooLongError](err); ok {
		return http.StatusRequestEntityTooLarge,
			fmt.Sprintf("text %d is %d characters long, the limit is %d", e.Index+1, e.Chars, e.Max)
	}
	if e, ok := errors.AsType[*inference.OverloadedError](err); ok {
		header.Set("Retry-After", strconv.Itoa(retryAfter(e.RetryAfter)))
		return http.StatusServiceUnavailable, "overloaded: " + e.Reason + "; try again later"
	}
	return http.StatusInternalServerError, "the model failed; the reason is in the server's log"
}

// retryAfter is in whole seconds, as the header wants, and never "at once".
func retryAfter(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// encode writes compact JSON and a newline, with <, > and & as they are.
func encode(out *bytes.Buffer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func writeError(w http.ResponseWriter, status int, message string) error {
	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, map[string]string{"error": message}); err != nil {
		return err
	}
	return writeJSON(w, status, out)
}

// writeJSON sends the body. An error here means that the client has gone.
func writeJSON(w http.ResponseWriter, status int, body *bytes.Buffer) error {
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
	return nil
}
