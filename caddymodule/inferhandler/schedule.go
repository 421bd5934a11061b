package inferhandler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/internal/rfc9218"
)

// schedule is how long a request may take and how urgent it is.
type schedule struct {
	timeout time.Duration
	urgency inference.Urgency
}

// schedule reads what a request says of itself; where it says nothing of its
// urgency it is the usual one.
func (h *Handler) schedule(r *http.Request, usual inference.Urgency) (schedule, error) {
	s := schedule{timeout: timeDuration(h.Timeout), urgency: usual}
	said := r.Header.Get("Request-Timeout")
	if h.RequestTimeout != "" {
		said = replaced(r, h.RequestTimeout)
	}
	if said = strings.TrimSpace(said); said != "" {
		d, ok := parseTimeout(said)
		if !ok {
			return s, badRequest("the request's timeout is not understood: give seconds above zero, such as 2 or 0.5, or a duration such as 500ms")
		}
		s.timeout = min(s.timeout, d)
	}
	if h.Priority != "" {
		if u, ok := rfc9218.Urgency(replaced(r, h.Priority)); ok {
			s.urgency = inference.Urgency(u)
		}
	}
	return s, nil
}

// context ends when the request's time is over.
func (s schedule) context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(inference.WithOrder(ctx, inference.Order{Urgency: s.urgency}), s.timeout)
}

// patientContext is context for one that comes now and waits for as long as it
// has time, and in whose place it comes again after a refusal.
func (s schedule) patientContext(ctx context.Context) (context.Context, context.CancelFunc) {
	order := inference.Order{Urgency: s.urgency, Came: time.Now(), Patient: true}
	return context.WithTimeout(inference.WithOrder(ctx, order), s.timeout)
}

// explain says what a deadline that has passed means to the client.
func (s schedule) explain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &requestError{http.StatusGatewayTimeout, fmt.Sprintf("no answer within %s", s.timeout)}
	}
	return err
}

func replaced(r *http.Request, text string) string {
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	return repl.ReplaceAll(text, "")
}

// parseTimeout reads seconds, with decimals or without, and durations.
func parseTimeout(s string) (time.Duration, bool) {
	if strings.Trim(s, "0123456789.") == "" { // no exponents, no hexadecimals, no infinity
		s += "s"
	}
	d, err := caddy.ParseDuration(s)
	return d, err == nil && d > 0
}
