package healthcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxBody is how much of an answer is read.
const maxBody = 1 << 20

// ask makes one check and says what came of it, and why if it did not pass.
func (c *Check) ask(ctx context.Context, t Target) (o outcome, reason string) {
	defer func() {
		if v := recover(); v != nil { // whatever a transport makes of a strange answer
			o, reason = failed, fmt.Sprintf("panic: %v", v)
		}
	}()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	// Not of the error: reverse_proxy's transports wrap those of dialling without
	// an Unwrap.
	var refused atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) {
		refused.Store(errors.Is(err, syscall.ECONNREFUSED))
	}})
	err := c.try(ctx, t)
	if err == nil {
		return passed, ""
	}
	var wrong *answerError
	switch slow := timedOut(err); {
	case errors.As(err, &wrong) && wrong.busy:
		return unclear, err.Error()
	case slow && t.Answered != nil && t.Answered(began):
		return unclear, "no answer, but it answers requests"
	case slow && t.Working != nil && t.Working():
		return silent, fmt.Sprintf("no answer within %v", c.Timeout)
	case slow:
		return failed, fmt.Sprintf("no answer within %v", c.Timeout)
	case refused.Load():
		return absent, err.Error()
	}
	return failed, err.Error()
}

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

// answerError is an answer that does not pass.
type answerError struct {
	what string
	busy bool
}

func (w *answerError) Error() string { return w.what }

func (c *Check) try(ctx context.Context, t Target) error {
	req, err := t.Request(ctx)
	if err != nil {
		return err
	}
	// A connection of its own: that the node accepts one is part of the
	// question, and a kept one would occupy the only worker of a small server.
	req.Close = true
	res, err := t.Transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if !c.passes(res.StatusCode) {
		return &answerError{
			what: fmt.Sprintf("status %d", res.StatusCode),
			busy: res.StatusCode == http.StatusTooManyRequests ||
				res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "",
		}
	}
	if c.Body == nil && c.Key == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if c.Body != nil && !c.Body.Match(body) {
		return &answerError{what: "the answer does not match " + c.Body.String()}
	}
	if c.Key != "" {
		return c.look(body)
	}
	return nil
}

func (c *Check) passes(status int) bool {
	for _, want := range c.Status {
		if status == want || status/100 == want {
			return true
		}
	}
	return false
}

// look finds the key in a JSON answer.
func (c *Check) look(body []byte) error {
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return &answerError{what: "the answer is not JSON"}
	}
	for key := range strings.SplitSeq(c.Key, ".") {
		object, _ := value.(map[string]any)
		next, ok := object[key]
		if !ok {
			return &answerError{what: "the answer has no " + c.Key}
		}
		value = next
	}
	switch value.(type) {
	case map[string]any, []any:
		return &answerError{what: c.Key + " is not a single value"}
	}
	text := fmt.Sprint(value)
	if c.Value != "" && text != c.Value || c.Value == "" && !saysYes(text) {
		if len(text) > 40 {
			text = text[:40] + "…"
		}
		return &answerError{what: fmt.Sprintf("%s is %q", c.Key, text)}
	}
	return nil
}

// saysYes takes the words for "well" that services use.
func saysYes(s string) bool {
	switch strings.ToLower(s) {
	case "true", "1", "ok", "up", "healthy", "ready", "pass", "passing", "serving":
		return true
	}
	return false
}
