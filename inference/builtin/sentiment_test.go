package builtin_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sentiment(t *testing.T, texts []string) []decode.LabelScore {
	t.Helper()
	model, err := inference.Acquire("builtin/sentiment-zh", inference.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := model.Release(); err != nil {
			t.Error(err)
		}
	}()
	results, _, err := model.Predict(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	best := make([]decode.LabelScore, len(results))
	for i, r := range results {
		if len(r.Scores) != 2 || r.Entities != nil {
			t.Fatalf("%q: scores %v, entities %v", texts[i], r.Scores, r.Entities)
		}
		best[i] = decode.Best(r.Scores)
	}
	return best
}

// The examples that the README and the articles show may never fail.
func TestSentimentOfTheShownExamples(t *testing.T) {
	want := map[string]string{
		"这个产品太棒了!": "positive",
		"太差了":      "negative",
	}
	for text, label := range want {
		if got := sentiment(t, []string{text})[0]; got.Label != label || got.Score < 0.8 {
			t.Errorf("%q is %s with %.2f, want %s", text, got.Label, got.Score, label)
		}
	}
}

// The probes were written by hand for negation, contrast, domains, scripts
// and signs; a demonstration model may miss one in twenty.
func TestSentimentOfProbeSentences(t *testing.T) {
	raw, err := os.ReadFile("testdata/sentiment/probes.json")
	if err != nil {
		t.Fatal(err)
	}
	var probes []struct{ Text, Label, Kind string }
	if err := json.Unmarshal(raw, &probes); err != nil {
		t.Fatal(err)
	}
	if len(probes) < 100 {
		t.Fatalf("only %d probes", len(probes))
	}
	texts := make([]string, len(probes))
	for i, p := range probes {
		texts[i] = p.Text
	}
	wrong := 0
	for i, got := range sentiment(t, texts) {
		if p := probes[i]; got.Label != p.Label {
			wrong++
			t.Logf("%s: %q is %s with %.2f, want %s", p.Kind, p.Text, got.Label, got.Score, p.Label)
		}
	}
	t.Logf("%d of %d probes", len(probes)-wrong, len(probes))
	if wrong*20 > len(probes) {
		t.Errorf("%d of %d probes are wrong", wrong, len(probes))
	}
}

// A verdict must not hang on the script or on the width of the letters.
func TestSentimentSeesThroughScriptAndWidth(t *testing.T) {
	pairs := [][2]string{
		{"这家餐厅的服务态度很好", "這家餐廳的服務態度很好"},
		{"质量太差，后悔买了", "質量太差，後悔買了"},
		{"VERY GOOD!", "ＶＥＲＹ　ＧＯＯＤ！"},
	}
	for _, p := range pairs {
		got := sentiment(t, p[:])
		if got[0] != got[1] {
			t.Errorf("%q gives %v, %q gives %v", p[0], got[0], p[1], got[1])
		}
	}
}

// Longer than one window, and nothing but white space: both get an answer.
func TestSentimentOfUnusualLengths(t *testing.T) {
	long := strings.Repeat("这家店的菜非常好吃，服务也很热情，下次还会再来。", 120)
	got := sentiment(t, []string{long, "", " \n", strings.Repeat("太难吃了，再也不来了。", 200)})
	if got[0].Label != "positive" || got[3].Label != "negative" {
		t.Errorf("long praise is %v, long blame is %v", got[0], got[3])
	}
	for i, g := range got {
		if !(g.Score >= 0.5 && g.Score <= 1) {
			t.Errorf("text %d: the best label has score %v", i, g.Score)
		}
	}
}
