package inferhandler

import (
	"encoding/json"
	"maps"
	"math"
	"slices"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// parameters of a request in Hugging Face's form, as its task schemas name
// them (huggingface.js, packages/tasks/src/tasks/*/spec/input.json). Those
// that would change the answer are obeyed or refused, never ignored.
type parameters struct {
	ignoreLabels []string // entity types to leave out
	topK         int      // most labels per text; 0 means all
}

// parseParameters reads the "parameters" object, which may be absent.
func parseParameters(raw json.RawMessage, task modeldir.Task) (parameters, error) {
	var p parameters
	if len(raw) == 0 {
		return p, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return p, badRequest("parameters must be an object, not %s", jsonKind(raw))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		if jsonKind(value) == "null" {
			continue // the client's way of saying "default"
		}
		if err := p.set(name, value, task); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *parameters) set(name string, value json.RawMessage, task modeldir.Task) error {
	if name == "truncation" || name == "padding" {
		return nil // nothing is truncated and padding has no effect on results
	}
	if task == modeldir.TokenClassification {
		switch name {
		case "stride":
			return nil // long texts are windowed by the model's own rules
		case "aggregation_strategy":
			var s string
			_ = json.Unmarshal(value, &s) // any other type is none of the words below
			if !slices.Contains([]string{"simple", "first", "average", "max"}, s) {
				return badRequest("parameters.aggregation_strategy must be simple, first, average or max: answers are whole entities")
			}
			return nil
		case "ignore_labels":
			if err := json.Unmarshal(value, &p.ignoreLabels); err != nil {
				return badRequest("parameters.ignore_labels must be an array of strings")
			}
			return nil
		}
		return badRequest("unknown parameter: token classification takes aggregation_strategy, ignore_labels and stride")
	}
	switch name {
	case "top_k":
		var k float64
		if err := json.Unmarshal(value, &k); err != nil || k < 1 || k != math.Trunc(k) {
			return badRequest("parameters.top_k must be a whole number from 1")
		}
		p.topK = int(min(k, math.MaxInt32))
		return nil
	case "return_all_scores":
		if string(value) == "true" {
			return nil
		}
		return badRequest("parameters.return_all_scores can only be true: use top_k for fewer labels")
	case "function_to_apply":
		return badRequest("parameters.function_to_apply cannot be chosen: the model's configuration decides between softmax and sigmoid")
	}
	return badRequest("unknown parameter: text classification takes top_k")
}
