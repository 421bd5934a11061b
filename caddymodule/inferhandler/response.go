package inferhandler

import (
	"cmp"
	"slices"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// entitiesAnswer is ModelScope's shape, with the text beside it.
type entitiesAnswer struct {
	Text   string             `json:"text"`
	Output []inference.Entity `json:"output"`
}

// labelAnswer is the articles' {"text","label","score"} together with
// ModelScope's parallel arrays, in the model's label order.
type labelAnswer struct {
	Text   string    `json:"text"`
	Label  string    `json:"label"`
	Score  float64   `json:"score"`
	Labels []string  `json:"labels"`
	Scores []float64 `json:"scores"`
}

type manyAnswers struct {
	Results []any `json:"results"`
}

// hfEntity is an element of Hugging Face's token classification output. The
// published schema says entityGroup; the API and its pipelines say
// entity_group, which is what clients read.
type hfEntity struct {
	EntityGroup string  `json:"entity_group"`
	Score       float64 `json:"score"`
	Word        string  `json:"word"`
	Start       int     `json:"start"`
	End         int     `json:"end"`
}

// answer gives the results the shape that the request asked for.
func answer(req *request, task modeldir.Task, results []inference.Result) any {
	switch req.form {
	case manyTexts:
		all := manyAnswers{Results: make([]any, len(results))}
		for i := range results {
			all.Results[i] = plainAnswer(task, &results[i])
		}
		return all
	case huggingFace:
		return huggingFaceAnswer(req, task, results)
	default:
		return plainAnswer(task, &results[0])
	}
}

func huggingFaceAnswer(req *request, task modeldir.Task, results []inference.Result) any {
	if task == modeldir.TokenClassification {
		all := make([][]hfEntity, len(results))
		for i := range results {
			all[i] = hfEntities(results[i].Entities, req.params.ignoreLabels)
		}
		if !req.batch {
			return all[0]
		}
		return all
	}
	// One ranking per text, in an array even for a single text: what the
	// Inference API answers and its clients expect (they take element 0).
	all := make([][]decode.LabelScore, len(results))
	for i := range results {
		all[i] = ranking(results[i].Scores, req.params.topK)
	}
	return all
}

func plainAnswer(task modeldir.Task, r *inference.Result) any {
	if task == modeldir.TokenClassification {
		entities := r.Entities
		if entities == nil {
			entities = []inference.Entity{} // "output" is an array, never null
		}
		return entitiesAnswer{Text: r.Text, Output: entities}
	}
	best := decode.Best(r.Scores)
	a := labelAnswer{
		Text:   r.Text,
		Label:  best.Label,
		Score:  best.Score,
		Labels: make([]string, len(r.Scores)),
		Scores: make([]float64, len(r.Scores)),
	}
	for i, s := range r.Scores {
		a.Labels[i], a.Scores[i] = s.Label, s.Score
	}
	return a
}

func hfEntities(entities []inference.Entity, ignore []string) []hfEntity {
	out := make([]hfEntity, 0, len(entities))
	for _, e := range entities {
		if slices.Contains(ignore, e.Type) {
			continue
		}
		out = append(out, hfEntity{EntityGroup: e.Type, Score: e.Prob, Word: e.Span, Start: e.Start, End: e.End})
	}
	return out
}

// ranking sorts by falling score; labels of equal score keep the model's
// order.
func ranking(scores []decode.LabelScore, topK int) []decode.LabelScore {
	sorted := slices.Clone(scores)
	slices.SortStableFunc(sorted, func(a, b decode.LabelScore) int { return cmp.Compare(b.Score, a.Score) })
	if topK > 0 && topK < len(sorted) {
		sorted = sorted[:topK]
	}
	return sorted
}
