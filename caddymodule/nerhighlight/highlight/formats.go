package highlight

import (
	"strings"
)

// The formats below have keys of their own. Each function says no unless the
// object is of its format.

// readCLUENER reads {"text","label":{"name":{"叶老桂":[[9,11]]}}}: the end
// counts in.
func readCLUENER(o object) (answer, bool) {
	types, ok := o["label"].(object)
	if !ok {
		return answer{}, false
	}
	a := answer{systems: []system{{unit: codePoints, inclusive: true}}, mentions: []mention{}}
	for _, label := range sortedKeys(types) {
		words, ok := types[label].(object)
		if !ok {
			return answer{}, false
		}
		for _, word := range sortedKeys(words) {
			places, ok := arrays(words[word])
			if !ok {
				return answer{}, false
			}
			for _, p := range places {
				m, ok := place(p)
				if !ok {
					return answer{}, false
				}
				m.label, m.word = label, word
				a.mentions = append(a.mentions, m)
			}
		}
	}
	return a, true
}

// place reads [start, end].
func place(p []any) (mention, bool) {
	if len(p) < 2 {
		return mention{}, false
	}
	start, okStart := integer(p[0])
	end, okEnd := integer(p[1])
	return mention{start: start, end: end, placed: true}, okStart && okEnd
}

// readDoccano reads {"text","label":[[0,2,"PER"]]} (or "labels"). Doccano counts
// UTF-16 or graphemes, by the project's setting, which the export does not tell.
func readDoccano(o object) (answer, bool) {
	list, ok := arrays(field(o, "label", "labels", "entities"))
	if !ok || len(list) == 0 {
		return answer{}, false
	}
	a := answer{uncertain: true, systems: []system{{unit: utf16Units}, {unit: graphemeUnits}, {unit: codePoints}}}
	a.text, a.hasText = stringField(o, "text", "data")
	for _, e := range list {
		if len(e) != 3 {
			return answer{}, false
		}
		m, ok := place(e)
		if m.label, _ = e[2].(string); !ok || m.label == "" {
			return answer{}, false
		}
		a.mentions = append(a.mentions, m)
	}
	return a, true
}

// readLabelStudio reads a task with predictions or annotations, or one of these:
// regions with value {start,end,text,labels}. Old exports count UTF-16.
func readLabelStudio(o object) (answer, bool) {
	a := answer{uncertain: true, systems: []system{{unit: codePoints}, {unit: utf16Units}}, mentions: []mention{}}
	results := o["result"]
	if data, isTask := o["data"].(object); isTask {
		a.text, a.hasText = stringField(data, textKeys...)
		list, ok := objects(field(o, "predictions", "annotations"))
		if !ok || len(list) == 0 {
			return answer{}, false
		}
		results = list[0]["result"]
	}
	regions, ok := objects(results)
	if !ok || len(regions) == 0 {
		return answer{}, false
	}
	for _, region := range regions {
		value, ok := region["value"].(object)
		if !ok {
			return answer{}, false
		}
		labels, ok := stringsOf(value["labels"])
		if !ok {
			continue // a choice or a rating beside the regions
		}
		for _, label := range labels {
			m, _, ok := entity(object{"label": label, "start": value["start"], "end": value["end"], "text": value["text"], "score": region["score"]})
			if !ok {
				return answer{}, false
			}
			a.mentions = append(a.mentions, m)
		}
	}
	return a, true
}

// readCoreNLP reads {"sentences":[{"entitymentions":[…]}]}, whose offsets are
// those of the whole text, in UTF-16.
func readCoreNLP(o object) (answer, bool) {
	sentences, ok := objects(o["sentences"])
	if !ok || len(sentences) == 0 {
		return answer{}, false
	}
	a := answer{systems: utf16, mentions: []mention{}}
	for _, s := range sentences {
		mentions, ok := objects(s["entitymentions"])
		if !ok {
			return answer{}, false
		}
		for _, o := range mentions {
			m, _, ok := entity(o)
			if !ok {
				return answer{}, false
			}
			a.mentions = append(a.mentions, m)
		}
	}
	return a, true
}

// readBratJSON reads brat's embedded form: {"text","entities":[["T1","PER",[[0,5]]]]}.
// The parts of a discontinuous entity become entities of their own.
func readBratJSON(o object) (answer, bool) {
	list, ok := arrays(o["entities"])
	if !ok || len(list) == 0 {
		return answer{}, false
	}
	a := answer{systems: exclusive}
	for _, e := range list {
		if len(e) != 3 {
			return answer{}, false
		}
		label, okLabel := e[1].(string)
		parts, okParts := arrays(e[2])
		if !okLabel || !okParts || label == "" {
			return answer{}, false
		}
		for _, p := range parts {
			m, ok := place(p)
			if !ok {
				return answer{}, false
			}
			m.label = label
			a.mentions = append(a.mentions, m)
		}
	}
	return a, true
}

// readBrat reads a .ann file: T1<tab>PER 0 5;8 10<tab>words. Lines of other
// kinds (relations, notes) are skipped. The words of a discontinuous entity are
// its parts with a space between, so they vouch for each part.
func readBrat(body []byte) ([]answer, bool) {
	a := answer{systems: exclusive}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimRight(line, "\r\n")
		if !strings.HasPrefix(line, "T") {
			continue
		}
		columns := strings.SplitN(line, "\t", 3)
		if len(columns) < 2 {
			return nil, false
		}
		label, places, ok := strings.Cut(columns[1], " ")
		if !ok || label == "" {
			return nil, false
		}
		parts := strings.Split(places, ";")
		for _, p := range parts {
			first, last, ok := strings.Cut(p, " ")
			start, okStart := integer(first)
			end, okEnd := integer(last)
			if !ok || !okStart || !okEnd {
				return nil, false
			}
			m := mention{label: label, start: start, end: end, placed: true}
			if len(parts) == 1 && len(columns) == 3 {
				m.word = columns[2]
			}
			a.mentions = append(a.mentions, m)
		}
	}
	return []answer{a}, len(a.mentions) > 0
}

// readInference reads the Open Inference Protocol: the elements of outputs with
// strings are themselves answers, mostly JSON in a string. Numbers are labels
// or logits without offsets, which nobody can place.
func readInference(r *reader, o object, depth int) ([]answer, bool) {
	outputs, ok := objects(o["outputs"])
	if !ok {
		return nil, false
	}
	for _, out := range outputs {
		if kind, _ := stringField(out, "datatype"); kind != "BYTES" {
			continue
		}
		list, ok := out["data"].([]any)
		if !ok {
			continue
		}
		if answers, ok := r.each(flatten(list), depth); ok {
			return answers, true
		}
	}
	return nil, false
}

// flatten undoes the nesting of a tensor's data.
func flatten(list []any) []any {
	if len(list) == 0 {
		return list
	}
	if _, nested := list[0].([]any); !nested {
		return list
	}
	var out []any
	for _, e := range list {
		if inner, ok := e.([]any); ok {
			out = append(out, flatten(inner)...)
		}
	}
	return out
}
