package inferhandler

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-infer/caddy-infer/inference"
)

// marker is a text that must not turn up anywhere but in an answer of 200.
const marker = "秘密的人"

// markedRequests reach every way that a request can end.
var markedRequests = []string{
	`{"text":"` + marker + `"}`,
	`{"texts":["` + marker + `"]}`,
	`{"inputs":"` + marker + `"}`,
	`{"text":"` + marker,
	`{"text":"a"} ` + marker,
	`{"` + marker + `":"a"}`,
	`{"text":["` + marker + `"]}`,
	`{"texts":["a",{"` + marker + `":1}]}`,
	`{"text":"` + marker + `","inputs":"` + marker + `"}`,
	`{"inputs":"a","parameters":{"` + marker + `":1}}`,
	`{"inputs":"a","parameters":"` + marker + `"}`,
	`{"inputs":"a","parameters":{"aggregation_strategy":"` + marker + `"}}`,
	`{"inputs":"a","parameters":{"ignore_labels":"` + marker + `"}}`,
	`{"texts":"` + marker + `"}`,
	`["` + marker + `"]`,
	`"` + marker + `"`,
	marker,
	marker + "\xff",
	`{"text":` + strings.Repeat("[", 99) + marker,
	`{"text":"` + strings.Repeat(marker, 999) + `"}`,
	`{"texts":[` + strings.Repeat(`"`+marker+`",`, 9) + `"a"]}`,
}

func TestUserTextIsNowhereButInItsAnswer(t *testing.T) {
	var log bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
		zapcore.AddSync(&log), zap.DebugLevel))

	fails := []error{
		nil, context.DeadlineExceeded, &inference.TooLongError{Chars: 4, Max: 3},
		&inference.OverloadedError{Reason: "512 are waiting"},
		&inference.EngineError{Err: errors.New("broken")}, errors.New("unheard of"),
	}
	seen := make(map[int]bool)
	for _, fail := range fails {
		f := &fakeModel{task: ner}
		if fail != nil {
			f.predict = func(context.Context, []string) ([]inference.Result, inference.Stats, error) {
				return nil, inference.Stats{}, fail
			}
		}
		h := newHandler(f)
		h.logger, h.MaxBody, h.MaxTexts = logger, 2000, 5
		for _, contentType := range []string{"application/json", "text/" + marker} {
			for _, body := range markedRequests {
				r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
				r.Header.Set("Content-Type", contentType)
				w := httptest.NewRecorder()
				if err := h.ServeHTTP(w, r, nil); err != nil {
					t.Fatal(err)
				}
				seen[w.Code] = true
				if w.Code != http.StatusOK && containsMarker(w.Body.String()) {
					t.Errorf("the answer %d repeats the text: %s", w.Code, w.Body)
				}
				for name, values := range w.Header() {
					if containsMarker(strings.Join(values, "")) {
						t.Errorf("header %s repeats the text", name)
					}
				}
			}
		}
	}
	for _, code := range []int{200, 400, 413, 415, 500, 503, 504} {
		if !seen[code] {
			t.Errorf("no request ended with %d, so this test proves nothing about it", code)
		}
	}
	if log.Len() == 0 || containsMarker(log.String()) {
		t.Errorf("the log is empty or repeats the text:\n%s", &log)
	}
	if exported := scrape(t); !strings.Contains(exported, "caddy_inference_requests_total") || containsMarker(exported) {
		t.Errorf("metrics are missing or repeat the text:\n%s", exported)
	}
}

// containsMarker finds one rune of the marker, raw or escaped.
func containsMarker(s string) bool {
	return strings.ContainsAny(s, marker) || strings.Contains(strings.ToLower(s), `\u79d8`)
}

func scrape(t *testing.T) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registerMetrics(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}
