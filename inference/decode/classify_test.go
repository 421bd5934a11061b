package decode

import (
	"math"
	"testing"
)

func TestSoftmaxSumsToOneInLabelOrder(t *testing.T) {
	got := Classify([]float32{1, 3, 2}, []string{"负面", "正面", "中性"}, false)
	sum := 0.0
	for i, want := range []string{"负面", "正面", "中性"} {
		if got[i].Label != want {
			t.Errorf("label %d is %s", i, got[i].Label)
		}
		sum += got[i].Score
	}
	if math.Abs(sum-1) > 1e-12 || Best(got).Label != "正面" {
		t.Errorf("%v", got)
	}
	if want := math.Exp(3) / (math.Exp(1) + math.Exp(2) + math.Exp(3)); math.Abs(got[1].Score-want) > 1e-12 {
		t.Errorf("score %v, want %v", got[1].Score, want)
	}
}

func TestMultiLabelScoresAreIndependent(t *testing.T) {
	got := Classify([]float32{0, 100, -100}, []string{"a", "b", "c"}, true)
	for i, want := range []float64{0.5, 1, 0} {
		if math.Abs(got[i].Score-want) > 1e-12 {
			t.Errorf("%v", got)
		}
	}
}

func TestBrokenRowsStillGiveProbabilities(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, row := range [][]float32{{nan, 1}, {inf, inf}, {-inf, -inf}, {nan, nan}, {1}} {
		for _, multi := range []bool{false, true} {
			for _, s := range Classify(row, []string{"a", "b"}, multi) {
				if !(s.Score >= 0 && s.Score <= 1) {
					t.Errorf("%v: %v", row, s)
				}
			}
		}
	}
	if got := Best(Classify(nil, nil, false)); got != (LabelScore{}) {
		t.Errorf("best of nothing: %v", got)
	}
}

func TestSentimentNames(t *testing.T) {
	for label, want := range map[string]string{
		"正面": "positive", "Positive": "positive", "1": "positive", "LABEL_1": "positive", " pos ": "positive",
		"负面": "negative", "Negative": "negative", "0": "negative", "LABEL_0": "negative", "中性": "neutral",
	} {
		if got, ok := CanonicalSentiment(label); got != want || !ok {
			t.Errorf("%q is %q %v, want %q", label, got, ok, want)
		}
	}
	if got, ok := CanonicalSentiment("LABEL_2"); ok {
		t.Errorf("LABEL_2 is %q", got)
	}
}

func TestF1CountsExactSpans(t *testing.T) {
	var e Evaluation
	if e.Micro().F1() != 0 {
		t.Error("F1 of nothing is not 0")
	}
	e.Add([]Span{{"PER", 0, 2, 1}, {"LOC", 3, 5, 1}, {"LOC", 8, 9, 1}}, []Span{{"PER", 0, 2, .5}, {"LOC", 3, 4, .9}, {"ORG", 8, 9, .9}})
	e.Add([]Span{{"PER", 0, 2, 1}}, []Span{{"PER", 0, 2, 1}, {"PER", 0, 2, 1}})
	if got := e.Micro(); got != (Counts{Correct: 2, Predicted: 5, Gold: 4}) {
		t.Errorf("micro: %+v", got)
	}
	if got := e.Type("PER"); got.Precision() != 2./3 || got.Recall() != 1 || got.F1() != 0.8 {
		t.Errorf("PER: %+v %v %v %v", got, got.Precision(), got.Recall(), got.F1())
	}
	if got := e.Types(); len(got) != 3 || got[0] != "LOC" {
		t.Errorf("types %v", got)
	}
}
