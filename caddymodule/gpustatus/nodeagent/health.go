package nodeagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

const (
	// fall is how many questions in a row must go wrong before a service is
	// not healthy: a lost one is none that is down. One good answer heals it.
	fall = 2
	// maxHealthPage is how much of an answer is looked at.
	maxHealthPage = 64 << 10
)

// health asks one URL over and over.
type health struct {
	url    string
	client *http.Client

	mu       sync.Mutex
	verdict  gpuprobe.Optional[bool]
	failures int
	err      error // of the latest question
}

func newHealth(url string, timeout time.Duration) *health {
	return &health{url: url, client: &http.Client{
		Timeout: timeout,
		// No proxy from the environment: the question goes to the service
		// itself. No idle connections: they would hold the only worker of a
		// small Python server.
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: timeout}).DialContext,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxHealthPage,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme || len(via) > 3 {
				return errors.New("redirected elsewhere")
			}
			return nil
		},
	}}
}

func (h *health) run(ctx context.Context, interval time.Duration, changed func()) {
	for {
		err := h.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		h.take(err)
		changed()
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return
		}
	}
}

func (h *health) take(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	if err == nil {
		h.failures, h.verdict = 0, gpuprobe.Some(true)
		return
	}
	if h.failures++; h.failures >= fall {
		h.verdict = gpuprobe.Some(false)
	}
}

// ask returns nil from a healthy service.
func (h *health) ask(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json, */*;q=0.5")
	req.Header.Set("User-Agent", "caddy-infer gpu_status")
	resp, err := h.client.Do(req)
	if err != nil {
		return brief(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	page, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthPage))
	if err != nil {
		return brief(err)
	}
	return confession(page)
}

// brief leaves out the URL, which the operator knows and which may have a
// password in it.
func brief(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		if wrapped.Timeout() {
			return errors.New("no answer in time")
		}
		return wrapped.Err
	}
	return err
}

// confession is why a service that answered 2xx says that it is not well, nil
// if it does not. Anything but the usual keys is no confession.
func confession(page []byte) error {
	var keys map[string]json.RawMessage
	if json.Unmarshal(page, &keys) != nil {
		return nil
	}
	for _, key := range []string{"overall_healthy", "healthy", "model_loaded"} {
		if string(keys[key]) == "false" {
			return fmt.Errorf("it says %s: false", key)
		}
	}
	var status string
	if json.Unmarshal(keys["status"], &status) == nil {
		switch strings.ToLower(status) {
		case "unhealthy", "down", "error", "fail", "failed", "failing", "critical", "not_ready":
			return fmt.Errorf("it says status: %s", strings.ToLower(status))
		}
	}
	return nil
}

// into puts the verdict into a state and returns whether the service is not
// known to be ill, and whether anything is known that should be. Without a URL
// the telemetry's own verdict stands. h may be nil.
func (h *health) into(s *State, name string, verdict *gpuprobe.Optional[bool], reason *string) (well, known bool) {
	if h == nil {
		if !verdict.Or(true) {
			*reason = "telemetry says so"
			s.note("%s: %s", name, *reason)
		}
		return verdict.Or(true), true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	*verdict = h.verdict
	switch {
	case h.err != nil:
		*reason = h.err.Error()
		s.note("%s: %s", name, *reason)
	case !h.verdict.Known():
		*reason = "not asked yet"
		s.note("%s: %s", name, *reason)
	}
	return h.verdict.Or(true), h.verdict.Known()
}
