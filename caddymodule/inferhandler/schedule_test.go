package inferhandler

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestRequestTimeoutShortensTheHandlersOwn(t *testing.T) {
	for said, want := range map[string]time.Duration{
		"": 30 * time.Second, "2": 2 * time.Second, "0.25": 250 * time.Millisecond, " 1 ": time.Second, "500ms": 500 * time.Millisecond,
		"1d": 30 * time.Second, "60": 30 * time.Second, "1.5h": 30 * time.Second,
		"0": 0, "-1": 0, "soon": 0, "NaN": 0, "1e3": 0, "0x10": 0, ".": 0, "1.2.3": 0, "-5s": 0, "Inf": 0, "1_0": 0,
	} {
		var got time.Duration
		f := &fakeModel{task: modeldir.TokenClassification}
		f.predict = func(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
			deadline, _ := ctx.Deadline()
			got = time.Until(deadline)
			return make([]inference.Result, len(texts)), inference.Stats{}, nil
		}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"text":"x"}`))
		r.Header.Set("Request-Timeout", said)
		w := httptest.NewRecorder()
		if err := newHandler(f).ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		switch {
		case want == 0 && (w.Code != 400 || !strings.Contains(w.Body.String(), "timeout is not understood")):
			t.Errorf("%q: %d %s", said, w.Code, w.Body)
		case want > 0 && (w.Code != 200 || got > want || got < want-5*time.Second && got < want*3/4):
			t.Errorf("%q: %d, %v left, want %v", said, w.Code, got, want)
		}
	}
}

func TestDeadlineOfTheRequestEndsIt(t *testing.T) {
	open := closeGate()
	defer open()
	c := caddyrun.Start(t, site(modelDir(t), "", "inference ner"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL("API"), strings.NewReader(`{"text":"等"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Request-Timeout", "0.05")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body [100]byte
	n, _ := resp.Body.Read(body[:])
	if got := string(body[:n]); resp.StatusCode != 504 || got != `{"error":"no answer within 50ms"}`+"\n" {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
}

// The one worker is busy. Whoever is more urgent is answered first.
func TestPriorityOfAHeaderOrdersTheQueue(t *testing.T) {
	open := closeGate()
	defer open()
	dir := modelDir(t)
	c := caddyrun.Start(t, site(dir, "workers 1\n\t\t\tbatch 1", "inference ner {\n\t\tpriority {header.X-Priority}\n\t\trequest_timeout {header.X-Timeout}\n\t}"))
	done := make(chan struct{}, 3)
	ask := func(text, priority string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL("API"), strings.NewReader(`{"text":"`+text+`"}`))
		if err != nil {
			t.Error(err)
		}
		req.Header.Set("X-Priority", priority)
		req.Header.Set("X-Timeout", "10s")
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
		} else {
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("%s: %s", text, resp.Status)
			}
		}
		done <- struct{}{}
	}
	queued := func(n int) func() bool {
		return func() bool { l := inference.Loads(); return len(l) == 1 && l[0].Queued == n }
	}
	waiting := script.waiting.Load()
	go ask("等", "")
	eventually(t, "the worker to be busy", func() bool { return script.waiting.Load() > waiting })
	go ask("马", "u=7, i")
	eventually(t, "one to wait", queued(1))
	go ask("云", "0")
	eventually(t, "two to wait", queued(2))
	open()
	for range 3 {
		<-done
	}
	script.mu.Lock()
	defer script.mu.Unlock()
	if got, want := script.ran[len(script.ran)-3:], []int32{waitID, yunID, maID}; !slices.Equal(got, want) {
		t.Errorf("ran in the order %v, want %v", got, want)
	}
}
