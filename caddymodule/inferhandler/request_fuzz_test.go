package inferhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// FuzzRequest: whatever the body, it is either refused with words of ours or
// gives texts within the limits, whose answer is valid JSON.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"text":"马云在杭州"}`,
		`{"texts":["a","😀"]}`,
		`{"inputs":["a"],"parameters":{"ignore_labels":["O"],"stride":1}}`,
		`{"inputs":"a","parameters":{"top_k":2,"return_all_scores":true}}`,
		`{"text":"\ud800","x":{"y":[[[]]]}}`,
		"{\"text\":\"\xff\"}",
		`{"text":"a"`, `[]`, `null`, ``, `{"texts":[1]}`, `{"text":"\"}`,
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, classify bool) {
		task := modeldir.TokenClassification
		if classify {
			task = modeldir.SequenceClassification
		}
		const maxTexts = 4
		req, err := parseRequest(body, task, maxTexts)
		if err != nil {
			if e, ok := errors.AsType[*requestError](err); !ok || (e.status != 400 && e.status != 413) || e.message == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatal("accepted what is not JSON")
		}
		if len(req.texts) == 0 || len(req.texts) > maxTexts {
			t.Fatalf("%d texts", len(req.texts))
		}
		for _, text := range req.texts {
			if text == "" || !utf8.ValidString(text) {
				t.Fatalf("text %q", text)
			}
		}
		results, _, _ := (&fakeModel{task: task}).Predict(t.Context(), req.texts)
		var out bytes.Buffer
		if err := encode(&out, answer(req, task, results)); err != nil || !json.Valid(out.Bytes()) {
			t.Fatalf("%v: %s", err, out.Bytes())
		}
	})
}
