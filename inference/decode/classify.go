package decode

import (
	"math"
	"strings"
)

// LabelScore is one class with its probability.
type LabelScore struct {
	Label string  `json:"label"`
	Score float64 `json:"score"`
}

// Classify turns the one row of a sequence classifier into probabilities, in
// label order: a softmax over all labels, or with multiLabel a sigmoid of
// each. Labels keep the model's own names. Columns beyond the labels, or
// labels beyond the columns, are left out.
func Classify(row []float32, labels []string, multiLabel bool) []LabelScore {
	n := min(len(row), len(labels))
	scores := make([]LabelScore, n)
	top := math.Inf(-1)
	for _, v := range row[:n] {
		top = max(top, clamp(v))
	}
	sum := 0.0
	for i := range scores {
		scores[i].Label = labels[i]
		if multiLabel {
			scores[i].Score = 1 / (1 + math.Exp(-clamp(row[i])))
			continue
		}
		scores[i].Score = math.Exp(clamp(row[i]) - top)
		sum += scores[i].Score
	}
	if !multiLabel {
		for i := range scores {
			scores[i].Score /= sum
		}
	}
	return scores
}

// Best returns the highest score, the first of equals, or the zero
// LabelScore when there are none.
func Best(scores []LabelScore) LabelScore {
	var best LabelScore
	for i, s := range scores {
		if i == 0 || s.Score > best.Score {
			best = s
		}
	}
	return best
}

// CanonicalSentiment maps the label names that sentiment models use to
// "positive", "negative" or "neutral", and reports whether it knew the name.
// The numeric names are read as two-class models use them: 1 is positive, 0
// and -1 are negative. Case and surrounding space do not matter.
func CanonicalSentiment(label string) (string, bool) {
	switch strings.ToLower(strings.TrimSpace(label)) {
	case "positive", "pos", "1", "label_1", "正面", "正向", "积极", "好评", "正":
		return "positive", true
	case "negative", "neg", "0", "-1", "label_0", "负面", "负向", "消极", "差评", "负":
		return "negative", true
	case "neutral", "neu", "中性", "中立":
		return "neutral", true
	}
	return "", false
}
