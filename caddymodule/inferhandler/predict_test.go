package inferhandler

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

const (
	ner       = modeldir.TokenClassification
	sentiment = modeldir.SequenceClassification
)

func TestEveryFormIsAnsweredInItsOwnShape(t *testing.T) {
	tests := []struct {
		name          string
		task          modeldir.Task
		request, want string
	}{
		{
			"entities of one text", ner, `{"text":"马云在杭州"}`,
			`{"text":"马云在杭州","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.875}]}`,
		},
		{"no entities is an empty array", ner, `{"text":"。"}`, `{"text":"。","output":[]}`},
		{
			"mark-up is not escaped", ner, `{"text":"<b>&"}`,
			`{"text":"<b>&","output":[{"type":"PER","start":0,"end":2,"span":"<b","prob":0.875}]}`,
		},
		{
			"label of one text", sentiment, `{"text":"好"}`,
			`{"text":"好","label":"positive","score":0.8,"labels":["negative","positive"],"scores":[0.2,0.8]}`,
		},
		{
			"entities of several texts", ner, `{"texts":["。","马云"]}`,
			`{"results":[{"text":"。","output":[]},{"text":"马云","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.875}]}]}`,
		},
		{
			"labels of several texts", sentiment, `{"texts":["好"]}`,
			`{"results":[{"text":"好","label":"positive","score":0.8,"labels":["negative","positive"],"scores":[0.2,0.8]}]}`,
		},
		{
			"Hugging Face entities", ner, `{"inputs":"马云在","parameters":{"aggregation_strategy":"simple","stride":16}}`,
			`[{"entity_group":"PER","score":0.875,"word":"马云","start":0,"end":2}]`,
		},
		{
			"Hugging Face entities of a batch", ner, `{"inputs":["马云在","。"]}`,
			`[[{"entity_group":"PER","score":0.875,"word":"马云","start":0,"end":2}],[]]`,
		},
		{"Hugging Face ignored labels", ner, `{"inputs":"马云在","parameters":{"ignore_labels":["O","PER"]}}`, `[]`},
		{
			"Hugging Face labels, best first", sentiment, `{"inputs":"好"}`,
			`[[{"label":"positive","score":0.8},{"label":"negative","score":0.2}]]`,
		},
		{
			"Hugging Face labels of a batch", sentiment, `{"inputs":["好","坏"],"parameters":{"top_k":1,"function_to_apply":null}}`,
			`[[{"label":"positive","score":0.8}],[{"label":"positive","score":0.8}]]`,
		},
		{"other keys do not matter", ner, `{"text":"。","options":{"wait_for_model":true},"id":7}`, `{"text":"。","output":[]}`},
		{"escapes and surrogate pairs", ner, "{\"text\":\"\\ud83d\\ude00\"}", `{"text":"😀","output":[]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := post(t, newHandler(&fakeModel{task: tt.task}), tt.request)
			if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != http.StatusOK || got != tt.want {
				t.Errorf("%d %s\nwant 200 %s", w.Code, got, tt.want)
			}
		})
	}
}

func TestRefusalsSayWhatIsWrong(t *testing.T) {
	tests := []struct {
		name          string
		task          modeldir.Task
		request, want string
		code          int
	}{
		{"no text at all", ner, `{}`, "No text provided", 400},
		{"an empty body", ner, ``, "No text provided", 400},
		{"an empty text", ner, `{"text":""}`, "No text provided", 400},
		{"a null text", ner, `{"text":null}`, "No text provided", 400},
		{"no texts", ner, `{"texts":[]}`, "No text provided", 400},
		{"null texts", ner, `{"texts":null}`, "No text provided", 400},
		{"keys are exact", ner, `{"Text":"a"}`, "No text provided", 400},
		{"an empty text among others", ner, `{"texts":["a",""]}`, "No text provided in texts[1]", 400},
		{"a number for a text", ner, `{"text":7}`, "text must be a string, not a number", 400},
		{"a string for texts", ner, `{"texts":"a"}`, "texts must be an array of strings, not a string", 400},
		{"a number among texts", ner, `{"texts":["a",7]}`, "texts[1] must be a string, not a number", 400},
		{"an object among inputs", sentiment, `{"inputs":[{"text":"a","text_pair":"b"}]}`, "inputs[0] must be a string, not an object", 400},
		{"pairs", sentiment, `{"inputs":[["a","b"]]}`, "inputs[0] must be a string, not an array", 400},
		{"two forms at once", ner, `{"text":"a","inputs":"b"}`, "give either text or inputs, not both", 400},
		{"not an object", ner, `["a"]`, `the request body must be a JSON object such as {"text": "…"}, not an array`, 400},
		{"null", ner, `null`, "No text provided", 400},
		{"broken JSON", ner, "{\n  \"text\": \"马\" x}", "the request body is not valid JSON at line 2, column 15", 400},
		{"JSON that stops", ner, `{"text":"a`, "the request body is not valid JSON at line 1, column 10", 400},
		{"two values", ner, `{"text":"a"} {}`, "the request body is not valid JSON at line 1, column 14", 400},
		{"invalid UTF-8", ner, "{\"text\":\"a\xff\"}", "the request body is not valid UTF-8 at byte 11", 400},
		{"deep nesting", ner, `{"text":` + strings.Repeat("[", 1000), "the JSON is nested more than 16 levels deep", 400},
		{"a long body", ner, `{"text":"` + strings.Repeat("a", 1000) + `"}`, "the request body is larger than the limit of 500 bytes", 413},
		{"many texts", ner, `{"texts":["a","b","c","d"]}`, "texts has more than 3 texts", 413},
		{"a parameter that would change the answer", ner, `{"inputs":"a","parameters":{"aggregation_strategy":"none"}}`, "parameters.aggregation_strategy must be simple, first, average or max: answers are whole entities", 400},
		{"an unknown parameter", ner, `{"inputs":"a","parameters":{"top_k":1}}`, "unknown parameter: token classification takes aggregation_strategy, ignore_labels and stride", 400},
		{"a wrong parameter type", ner, `{"inputs":"a","parameters":{"ignore_labels":"PER"}}`, "parameters.ignore_labels must be an array of strings", 400},
		{"parameters that are none", ner, `{"inputs":"a","parameters":[]}`, "parameters must be an object, not an array", 400},
		{"top_k of half", sentiment, `{"inputs":"a","parameters":{"top_k":0.5}}`, "parameters.top_k must be a whole number from 1", 400},
		{"another function", sentiment, `{"inputs":"a","parameters":{"function_to_apply":"none"}}`, "parameters.function_to_apply cannot be chosen: the model's configuration decides between softmax and sigmoid", 400},
		{"not all scores", sentiment, `{"inputs":"a","parameters":{"return_all_scores":false}}`, "parameters.return_all_scores can only be true: use top_k for fewer labels", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandler(&fakeModel{task: tt.task})
			h.MaxBody, h.MaxTexts = 500, 3
			if len(tt.request) > 1000 && tt.code == 400 {
				h.MaxBody = defaultMaxBody
			}
			w := post(t, h, tt.request)
			wantError(t, w, tt.code, tt.want)
		})
	}
}

func wantError(t *testing.T, w *httptest.ResponseRecorder, code int, message string) {
	t.Helper()
	want := errorJSON(message)
	if w.Code != code || w.Body.String() != want {
		t.Errorf("%d %swant %d %s", w.Code, w.Body, code, want)
	}
}

func errorJSON(message string) string {
	return `{"error":"` + strings.ReplaceAll(message, `"`, `\"`) + `"}` + "\n"
}

func TestOnlyJSONInUTF8IsRead(t *testing.T) {
	tests := map[string]int{
		"":                                  200, // minimal clients send none
		"application/json":                  200,
		"Application/JSON; charset=UTF-8":   200,
		"application/vnd.api+json":          200,
		"application/json; charset=gbk":     415,
		"application/x-www-form-urlencoded": 415, // what `curl -d` sends by itself
		"text/plain":                        415,
		"text/x+json":                       415,
		"application/json; ;;":              415,
	}
	for contentType, want := range tests {
		if w := postAs(t, newHandler(&fakeModel{task: ner}), contentType, `{"text":"a"}`); w.Code != want {
			t.Errorf("%q: %d, want %d", contentType, w.Code, want)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"text":"a"}`))
	r.Header.Set("Content-Encoding", "gzip")
	w := httptest.NewRecorder()
	if err := newHandler(&fakeModel{task: ner}).ServeHTTP(w, r, nil); err != nil {
		t.Fatal(err)
	}
	wantError(t, w, 415, "send the body without Content-Encoding")
}

func TestBodiesWithoutALengthOrAnEndAreBounded(t *testing.T) {
	read := func(body io.Reader, length int64) *httptest.ResponseRecorder {
		h := newHandler(&fakeModel{task: ner})
		h.MaxBody = 500
		r := httptest.NewRequest(http.MethodPost, "/", body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		return w
	}
	wantError(t, read(endless{}, -1), 413, "the request body is larger than the limit of 500 bytes")
	wantError(t, read(strings.NewReader("{}"), math.MaxInt64), 413, "the request body is larger than the limit of 500 bytes")
	wantError(t, read(iotest.ErrReader(io.ErrUnexpectedEOF), 100), 400, "the request body is shorter than its Content-Length")
	wantError(t, read(broken{}, 100), 400, "the request body could not be read")
}

func TestModelErrorsBecomeStatusCodes(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		code       int
		message    string
		retryAfter string
	}{
		{"too long", &inference.TooLongError{Index: 0, Chars: 10001, Max: 10000}, 413, "text 1 is 10001 characters long, the limit is 10000", ""},
		{"overloaded", &inference.OverloadedError{Reason: "512 are waiting", RetryAfter: 1200 * time.Millisecond}, 503, "overloaded: 512 are waiting; try again later", "2"},
		{"overloaded for an instant", &inference.OverloadedError{Reason: "waited 2s"}, 503, "overloaded: waited 2s; try again later", "1"},
		{"out of time", context.DeadlineExceeded, 504, "no answer within 30s", ""},
		{"broken", &inference.EngineError{Err: errors.New("secret path")}, 500, "the model failed; the reason is in the server's log", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHandler(&fakeModel{task: ner, predict: func(context.Context, []string) ([]inference.Result, inference.Stats, error) {
				return nil, inference.Stats{}, tt.err
			}})
			w := post(t, h, `{"text":"a"}`)
			wantError(t, w, tt.code, tt.message)
			if got := w.Header().Get("Retry-After"); got != tt.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, tt.retryAfter)
			}
		})
	}
}

// waitForContext is a model that is slower than any patience.
func waitForContext(ctx context.Context, _ []string) ([]inference.Result, inference.Stats, error) {
	<-ctx.Done()
	return nil, inference.Stats{}, ctx.Err()
}

func TestSlowAnswersEndWith504AtTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandler(&fakeModel{task: ner, predict: waitForContext})
		h.Timeout = caddy.Duration(7 * time.Second)
		started := time.Now()
		w := post(t, h, `{"text":"a"}`)
		wantError(t, w, 504, "no answer within 7s")
		if took := time.Since(started); took != 7*time.Second {
			t.Errorf("answered after %s", took)
		}
	})
}

func TestNothingIsWrittenToAClientThatLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	h := newHandler(&fakeModel{task: ner, predict: func(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
		cancel()
		return waitForContext(ctx, texts)
	}})
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(`{"text":"a"}`))
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, r, nil)
	if e, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || e.StatusCode != 499 {
		t.Errorf("error %v, want 499 for Caddy's log", err)
	}
	if w.Body.Len() > 0 || len(w.Header()) > 0 {
		t.Errorf("wrote %v %q", w.Header(), w.Body)
	}
}

func TestOtherMethodsAreToldWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct{ method, path, allow string }{
		{http.MethodGet, "/predict", "POST"},
		{http.MethodPut, "/predict", "POST"},
		{http.MethodDelete, "/api/health", "GET, HEAD, POST"},
	} {
		w := httptest.NewRecorder()
		if err := newHandler(&fakeModel{task: ner}).ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil), nil); err != nil {
			t.Fatal(err)
		}
		wantError(t, w, 405, `send a POST with JSON such as {"text": "…"}`)
		if got := w.Header().Get("Allow"); got != tt.allow {
			t.Errorf("%s %s: Allow %q, want %q", tt.method, tt.path, got, tt.allow)
		}
	}
}

func TestTimingHeaderSplitsTheLatency(t *testing.T) {
	h := newHandler(&fakeModel{task: ner, predict: func(_ context.Context, texts []string) ([]inference.Result, inference.Stats, error) {
		return []inference.Result{{Text: texts[0]}}, inference.Stats{
			Queue: 2 * time.Millisecond, Tokenize: 30 * time.Microsecond, Run: 4 * time.Second, Decode: 5 * time.Microsecond,
		}, nil
	}})
	w := post(t, h, `{"text":"a"}`)
	got := w.Header().Get("Server-Timing")
	if !strings.HasPrefix(got, "queue;dur=2.000, tokenize;dur=0.030, run;dur=4000.000, decode;dur=0.005, total;dur=") {
		t.Errorf("Server-Timing: %s", got)
	}
	if got := w.Header().Get("X-Inference-Model"); got != "fake" {
		t.Errorf("X-Inference-Model %q", got)
	}
}

func TestRequestsAfterCleanupAreStillAnswered(t *testing.T) {
	h := newHandler(&fakeModel{task: ner})
	again := &fakeModel{task: ner}
	h.reacquire = func() (sharedModel, error) { return again, nil }
	if err := h.Cleanup(); err != nil {
		t.Fatal(err)
	}
	if w := post(t, h, `{"text":"马云"}`); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !again.released.Load() {
		t.Error("the model opened for the late request was not given back")
	}
}
