package inferhandler

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// fakeModel answers at once: the first two characters of a text are a PER, or
// the text is 0.8 positive.
type fakeModel struct {
	task     modeldir.Task
	predict  func(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error)
	check    func(ctx context.Context) error
	released atomic.Bool
	holds    atomic.Int64
	held     *fakeModel // what Hold returned last
}

func (f *fakeModel) Info() inference.Info {
	return inference.Info{
		Ref: "builtin/fake", Digest: "sha256:0123", Task: f.task,
		Engine: engine.Info{Engine: "fake"}, MaxChars: 100,
	}
}

func (f *fakeModel) Predict(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
	if f.released.Load() {
		return nil, inference.Stats{}, inference.ErrReleased
	}
	if f.predict != nil {
		return f.predict(ctx, texts)
	}
	results := make([]inference.Result, len(texts))
	for i, t := range texts {
		results[i] = inference.Result{Text: t}
		if f.task == modeldir.TokenClassification {
			results[i].Entities = firstTwo(t)
		} else {
			results[i].Scores = []decode.LabelScore{{Label: "negative", Score: 0.2}, {Label: "positive", Score: 0.8}}
		}
	}
	return results, inference.Stats{BatchSize: len(texts), Windows: len(texts), Digest: f.Info().Digest}, nil
}

func firstTwo(text string) []inference.Entity {
	runes := []rune(text)
	if len(runes) < 2 {
		return []inference.Entity{}
	}
	return []inference.Entity{{Type: "PER", Start: 0, End: 2, Span: string(runes[:2]), Prob: 0.875}}
}

func (f *fakeModel) Check(ctx context.Context) error {
	if f.released.Load() {
		return inference.ErrReleased
	}
	if f.check != nil {
		return f.check(ctx)
	}
	return nil
}

func (f *fakeModel) Hold() (model, error) {
	if f.released.Load() {
		return nil, inference.ErrReleased
	}
	f.holds.Add(1)
	f.held = &fakeModel{task: f.task, predict: f.predict, check: f.check}
	return f.held, nil
}

func (f *fakeModel) Release() error {
	if f.released.Swap(true) {
		return errors.New("released twice")
	}
	return nil
}

// newHandler is a provisioned handler around a fake.
func newHandler(f *fakeModel) *Handler {
	h := &Handler{Model: "fake", logger: zap.NewNop()}
	h.setDefaults()
	h.use(f)
	return h
}

func post(t testing.TB, h *Handler, body string) *httptest.ResponseRecorder {
	t.Helper()
	return postAs(t, h, "application/json", body)
}

func postAs(t testing.TB, h *Handler, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/predict", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatalf("the handler passed on the error %v", err)
	}
	checkAnswer(t, w.Result())
	return w
}

// checkAnswer verifies what every answer promises.
func checkAnswer(t testing.TB, r *http.Response) {
	t.Helper()
	body, _ := io.ReadAll(r.Body)
	if got := r.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	if !utf8.Valid(body) || len(body) == 0 || body[len(body)-1] != '\n' {
		t.Errorf("the body %q is not one line of UTF-8", body)
	}
}
