package inferhandler

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// TestBuiltInModelsAnswerWithoutTheGlobalOption checks what holds for any
// weights; how good their answers are is tested beside the models.
func TestBuiltInModelsAnswerWithoutTheGlobalOption(t *testing.T) {
	c := caddyrun.Start(t, `http://ADDR_API {
	inference /ner* builtin/ner-zh
	inference /sentiment* builtin/sentiment-zh
}`)
	const text = "清华大学与中科院联合发布新研究成果。😀 ＡＢＣ"
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	var entities entitiesAnswer
	decodeReply(t, send(t, c.URL("API")+"/ner", string(body)), &entities)
	if entities.Text != text || len(entities.Output) == 0 {
		t.Errorf("%+v", entities)
	}
	runes := []rune(text)
	for _, e := range entities.Output {
		if e.Start < 0 || e.Start >= e.End || e.End > len(runes) || string(runes[e.Start:e.End]) != e.Span || e.Prob <= 0 || e.Prob > 1 {
			t.Errorf("entity %+v of %q", e, text)
		}
	}

	var label labelAnswer
	decodeReply(t, send(t, c.URL("API")+"/sentiment", string(body)), &label)
	if label.Text != text || label.Score < 0.5 || label.Score > 1 || len(label.Labels) != 2 || len(label.Scores) != 2 {
		t.Errorf("%+v", label)
	}

	long := strings.Repeat("清华大学。", 200)
	decodeReply(t, send(t, c.URL("API")+"/ner", `{"text":"`+long+`"}`), &entities)
	if n := len(entities.Output); n < 190 {
		t.Errorf("%d entities in 200 sentences: the end of a long text was lost", n)
	}
	if got := send(t, c.URL("API")+"/ner", `{"text":"`+strings.Repeat(long, 10)+`。"}`); got.code != 413 || got.body != `{"error":"text 1 is 10001 characters long, the limit is 10000"}` {
		t.Errorf("%d %.200s", got.code, got.body)
	}
	for _, path := range []string{"/ner/health", "/sentiment/healthz"} {
		if got := send(t, c.URL("API")+path, ""); got.code != 200 || !strings.Contains(got.body, `"status":"healthy"`) {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
}

func decodeReply(t *testing.T, got reply, into any) {
	t.Helper()
	if got.code != 200 {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), into); err != nil {
		t.Fatal(err)
	}
}
