package inference_test

import (
	"slices"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference"
)

// The sentences that the articles show. None is in the training data.
func TestBuiltinModelReadsTheArticlesSentences(t *testing.T) {
	model, err := inference.Acquire("builtin/ner-zh", inference.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Release()
	for _, test := range []struct {
		text string
		want map[string]string // span to type; "" means any type
	}{
		{"马云在杭州阿里巴巴总部发表演讲。", map[string]string{"马云": "PER", "杭州": "LOC", "阿里巴巴": "ORG"}},
		{"清华大学与中科院联合发布新研究成果。", map[string]string{"清华大学": "ORG", "中科院": "ORG"}},
		{"特朗普访问华盛顿特区白宫。", map[string]string{"特朗普": "PER", "华盛顿特区": "LOC", "白宫": ""}},
		{"馬雲在杭州阿里巴巴總部發表演講。", map[string]string{"馬雲": "PER", "杭州": "LOC", "阿里巴巴": "ORG"}},
	} {
		results, _, err := model.Predict(t.Context(), []string{test.text})
		if err != nil {
			t.Fatal(err)
		}
		got := results[0].Entities
		if len(got) != len(test.want) {
			t.Errorf("%s: got %+v, want %v", test.text, got, test.want)
			continue
		}
		for _, e := range got {
			want, known := test.want[e.Span]
			if !known || want != "" && e.Type != want {
				t.Errorf("%s: got %+v, want %v", test.text, got, test.want)
			}
		}
	}
}

func TestLoadsTellOfEveryModelInUse(t *testing.T) {
	m, err := inference.Acquire("builtin/sentiment-zh", inference.Options{MaxChars: 77})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := inference.Digest("builtin/sentiment-zh")
	if err != nil {
		t.Fatal(err)
	}
	want := inference.Load{Ref: "builtin/sentiment-zh", Digest: digest}
	if loads := inference.Loads(); !slices.Contains(loads, want) || digest != m.Info().Digest {
		t.Errorf("%+v, want %+v among them", loads, want)
	}
	if err := m.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := inference.Digest("builtin/nonsense"); err == nil {
		t.Error("a model that is not there has a digest")
	}
}
