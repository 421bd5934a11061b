package highlight

import (
	"cmp"
	"slices"
	"strings"
)

// maxScores of one answer: more classes than any page can show.
const maxScores = 1000

// scoreList reads [{"label","score"}], as TEI and Hugging Face answer.
func scoreList(list []object) ([]Score, bool) {
	if len(list) > maxScores {
		return nil, false
	}
	scores := make([]Score, 0, len(list))
	for _, o := range list {
		label, okLabel := stringField(o, "label")
		score, okScore := probability(o["score"])
		if !okLabel || !okScore || field(o, startKeys...) != nil || field(o, wordKeys...) != nil {
			return nil, false
		}
		scores = append(scores, Score{label, score})
	}
	return ranked(scores), true
}

// scoreObject reads {"labels":[…],"scores":[…]} or {"label","score"} in an
// object that has no entities. ModelScope's arrays are not sorted.
func scoreObject(o object) ([]Score, bool) {
	if labels, ok := stringsOf(o["labels"]); ok {
		values, isList := o["scores"].([]any)
		if !isList {
			values = []any{o["scores"]} // one pair's similarity
		}
		if len(values) != len(labels) || len(labels) == 0 || len(labels) > maxScores {
			return nil, false
		}
		scores := make([]Score, len(labels))
		for i, label := range labels {
			p, ok := probability(values[i])
			if !ok {
				return nil, false
			}
			scores[i] = Score{label, p}
		}
		return ranked(scores), true
	}
	label, ok := stringField(o, "label", "sentiment", "Sentiment")
	if !ok || field(o, startKeys...) != nil || field(o, "entities", "output", "ents") != nil {
		return nil, false
	}
	score, ok := probability(field(o, scoreKeys...))
	if !ok {
		return nil, false
	}
	return []Score{{label, score}}, true
}

func ranked(scores []Score) []Score {
	slices.SortStableFunc(scores, func(a, b Score) int { return cmp.Compare(b.Score, a.Score) })
	return scores
}

// sentiments says whether a list of {"text","label","score"} classifies texts
// (PaddleNLP's sentiment analysis) rather than naming entities: the texts are
// those of the request, or the labels moods.
func (r *reader) sentiments(list []object) bool {
	moods, whole := true, len(r.texts) == len(list)
	for i, o := range list {
		label, okLabel := stringField(o, "label")
		text, okText := stringField(o, "text")
		if _, ok := probability(o["score"]); !ok || !okLabel || !okText || field(o, startKeys...) != nil {
			return false
		}
		moods = moods && isMood(label)
		whole = whole && text == r.texts[i]
	}
	return moods || whole
}

func isMood(label string) bool {
	l := strings.ToLower(label)
	switch l {
	case "positive", "negative", "neutral", "mixed", "pos", "neg", "正面", "负面", "中性", "积极", "消极", "0", "1":
		return true
	}
	return strings.HasPrefix(l, "label_")
}
