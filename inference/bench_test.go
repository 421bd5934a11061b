package inference_test

import (
	"fmt"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference"
)

// The built-in models on the articles' sentences, one by one and eight to a
// request, in one worker of one thread: sentences per second and core.
func BenchmarkBuiltin(b *testing.B) {
	sentences := []string{
		"马云在杭州阿里巴巴总部发表演讲。",
		"清华大学与中科院联合发布新研究成果。",
		"特朗普访问华盛顿特区白宫。",
	}
	for _, ref := range []string{"builtin/ner-zh", "builtin/sentiment-zh"} {
		model, err := inference.Acquire(ref, inference.Options{Workers: 1})
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range []int{1, 8} {
			texts := make([]string, n)
			for i := range texts {
				texts[i] = sentences[i%len(sentences)]
			}
			b.Run(fmt.Sprintf("%s/batch=%d", ref, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := model.Predict(b.Context(), texts); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "sentences/s")
			})
		}
		if err := model.Release(); err != nil {
			b.Fatal(err)
		}
	}
}
