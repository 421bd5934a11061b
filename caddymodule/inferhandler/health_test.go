package inferhandler

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func getHealth(t *testing.T, h *Handler, path string) (int, healthAnswer) {
	t.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil), nil); err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, w.Result())
	var a healthAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return w.Code, a
}

func TestHealthTellsWhatIsServed(t *testing.T) {
	for _, path := range []string{"/health", "/healthz", "/api-health", "/api/v1/health"} {
		code, a := getHealth(t, newHandler(&fakeModel{task: ner}), path)
		if _, err := time.Parse(time.RFC3339Nano, a.Timestamp); err != nil {
			t.Error(err)
		}
		a.Timestamp = ""
		want := healthAnswer{
			Status: "healthy", Service: "caddy-infer", ModelLoaded: true, Model: "fake",
			ModelDigest: "sha256:0123", Task: ner, Engine: "fake",
		}
		if code != http.StatusOK || a != want {
			t.Errorf("%s: %d %+v", path, code, a)
		}
	}
}

func TestHealthReportsAFailingForwardPass(t *testing.T) {
	h := newHandler(&fakeModel{task: ner, check: func(context.Context) error { return errors.New("running the model: out of memory") }})
	code, a := getHealth(t, h, "/health")
	if code != http.StatusServiceUnavailable || a.Status != "unhealthy" || a.Error != "running the model: out of memory" {
		t.Errorf("%d %+v", code, a)
	}
}

func TestHealthDoesNotWaitForAHangingEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(&fakeModel{task: ner, check: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		started := time.Now()
		code, a := getHealth(t, h, "/health")
		if took := time.Since(started); code != 503 || a.Error != "the forward pass took longer than 5s" || took != healthTimeout {
			t.Errorf("%d %+v after %s", code, a, took)
		}
	})
}

func TestHealthCheckByAClientThatLeftIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := newHandler(&fakeModel{task: ner, check: func(ctx context.Context) error { return ctx.Err() }})
	err := h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/health", nil), nil)
	if e, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || e.StatusCode != 499 {
		t.Errorf("error %v, want 499", err)
	}
}
