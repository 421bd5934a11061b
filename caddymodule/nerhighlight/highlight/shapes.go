package highlight

import (
	"slices"
	"strings"
)

// reader turns decoded JSON into answers. It first looks at what a value is, by
// its keys and the types of its elements, and only then reads it.
type reader struct {
	texts []string // of the request
}

// maxUnwrap is how many wrappers ("data", "result", JSON in a string) may be
// around an answer, and how deep arrays of answers may nest.
const maxUnwrap = 5

// value reads anything.
func (r *reader) value(v any, depth int) ([]answer, bool) {
	if depth > maxUnwrap {
		return nil, false
	}
	switch v := v.(type) {
	case string:
		if t := strings.TrimSpace(v); t != "" && (t[0] == '{' || t[0] == '[') {
			if inner, ok := decodeJSON([]byte(t)); ok {
				return r.value(inner, depth+1)
			}
		}
	case []any:
		return r.array(v, depth)
	case object:
		return r.object(v, depth)
	}
	return nil, false
}

// array reads a bare array: entities, class scores, tagged words, or one answer
// for each of several texts.
func (r *reader) array(list []any, depth int) ([]answer, bool) {
	if len(list) == 0 { // what token classification says when it finds nothing
		return []answer{{mentions: []mention{}, systems: exclusive}}, true
	}
	if all, ok := objects(list); ok {
		if scores, ok := scoreList(all); ok {
			return []answer{{scores: scores}}, true
		}
		if r.sentiments(all) {
			return r.each(list, depth)
		}
		if pieces, ok := gradioPieces(all); ok {
			return []answer{{pieces: pieces}}, true
		}
		if a, ok := entityList(all); ok {
			return []answer{a}, true
		}
		return r.each(list, depth)
	}
	if all, ok := arrays(list); ok {
		if a, ok := r.wordTags(all); ok {
			return []answer{a}, true
		}
	}
	return r.each(list, depth)
}

// each reads an array with an answer in every element.
func (r *reader) each(list []any, depth int) ([]answer, bool) {
	if len(list) > maxDocuments {
		return nil, false
	}
	var all []answer
	for i, e := range list {
		// One element is one text: what is nested in it can use that one.
		inner := &reader{}
		if len(r.texts) == len(list) {
			inner.texts = r.texts[i : i+1]
		} else if len(list) == 1 {
			inner.texts = r.texts
		}
		answers, ok := inner.value(e, depth+1)
		if !ok || len(all)+len(answers) > maxDocuments {
			return nil, false
		}
		all = append(all, answers...)
	}
	return all, true
}

// textKeys hold the text in an answer.
var textKeys = []string{"text", "sentence", "content", "raw_text", "input"}

// object reads an object: an answer for one text, or a wrapper.
func (r *reader) object(o object, depth int) ([]answer, bool) {
	if len(o) > 10_000 {
		return nil, false
	}
	text, hasText := stringField(o, textKeys...)
	one := func(a answer) ([]answer, bool) {
		if hasText && !a.hasText {
			a.text, a.hasText = text, true
		}
		return []answer{a}, true
	}
	for _, shape := range objectShapes {
		if a, ok := shape(o); ok {
			return one(a)
		}
	}
	if scores, ok := scoreObject(o); ok {
		return one(answer{scores: scores})
	}
	for _, key := range entityKeys {
		switch v := o[key].(type) {
		case []any:
			if len(v) == 0 {
				return one(answer{mentions: []mention{}, systems: exclusive})
			}
			if all, ok := objects(v); ok {
				if a, ok := entityList(all); ok {
					return one(a)
				}
			}
		case object: // Azure's one document, AWS's one result
			if inner, ok := r.object(v, depth+1); ok && depth < maxUnwrap {
				return r.withText(inner, text, hasText), true
			}
		}
	}
	if answers, ok := readInference(r, o, depth); ok {
		return answers, true
	}
	for _, key := range wrapperKeys {
		v, there := o[key]
		if !there {
			continue
		}
		if _, scalar := v.(string); scalar && slices.Contains(textKeys, key) {
			continue
		}
		if answers, ok := r.value(v, depth+1); ok {
			return r.withText(answers, text, hasText), true
		}
	}
	return nil, false
}

// withText gives a lone answer the text that stands beside its wrapper.
func (r *reader) withText(answers []answer, text string, hasText bool) []answer {
	if hasText && len(answers) == 1 && !answers[0].hasText {
		answers[0].text, answers[0].hasText = text, true
	}
	return answers
}

// entityKeys hold a list of entities beside a text.
var entityKeys = []string{
	"output", "entities", "ents", "nes", "ner", "spans", "Entities", "entity", "annotations", "mentions",
	"result", "results", "predictions", "data",
}

// wrapperKeys hold a whole answer.
var wrapperKeys = []string{
	"data", "Data", "result", "results", "Result", "predictions", "prediction", "output", "outputs",
	"response", "documents", "sentences", "answer", "body", "items",
}

// objectShapes are the formats with keys of their own, each told apart before it
// is read.
var objectShapes = []func(object) (answer, bool){
	readSpacy, readDisplacySpans, readHanLP, readLTP, readCLUENER, readDoccano, readLabelStudio, readCoreNLP, readBratJSON,
}

// entityList reads a list of objects that are entities, in the one vocabulary
// of names that services share.
func entityList(list []object) (answer, bool) {
	a := answer{systems: exclusive}
	for _, o := range list {
		m, systems, ok := entity(o)
		if !ok {
			if a, ok := extraction(list); ok {
				return a, true
			}
			return answer{}, false
		}
		if systems != nil {
			a.systems = systems
			a.uncertain = len(systems) > 1
		}
		a.mentions = append(a.mentions, m)
	}
	return a, true
}

var (
	labelKeys = []string{"entity_group", "entityGroup", "entity", "type", "label", "category", "ne", "ner", "tag", "class", "entity_type", "Type"}
	wordKeys  = []string{"word", "span", "text", "surface", "value", "mention", "name", "Text", "token"}
	startKeys = []string{"start", "start_char", "start_offset", "offset", "begin", "start_pos", "BeginOffset", "characterOffsetBegin", "startOffset", "start_idx"}
	endKeys   = []string{"end", "end_char", "end_offset", "EndOffset", "characterOffsetEnd", "end_pos", "endOffset", "end_idx"}
	scoreKeys = []string{"score", "prob", "probability", "confidence", "confidenceScore", "Score"}
)

// entity reads one object: a label, and words or a place or both.
func entity(o object) (m mention, systems []system, ok bool) {
	for _, key := range labelKeys {
		switch v := o[key].(type) {
		case string:
			m.label = v
		case []any: // Label Studio's labels of a region
			if len(v) == 1 {
				m.label, _ = v[0].(string)
			}
		}
		if m.label != "" {
			// Ungrouped tokens of a model without a scheme go on with one
			// another, as in Hugging Face's pipelines.
			if role, _ := cutTag(m.label); key == "entity" && role == 0 && o["index"] != nil && !isOutside(m.label) {
				m.label = "I-" + m.label
			}
			break
		}
	}
	if m.label == "" {
		return mention{}, nil, false
	}
	// A key that was read as the label is not the words.
	for _, key := range wordKeys {
		if s, isString := o[key].(string); isString {
			m.word = s
			break
		}
	}
	start, hasStart := integer(field(o, startKeys...))
	end, hasEnd := integer(field(o, endKeys...))
	if length, hasLength := integer(o["length"]); hasStart && !hasEnd && hasLength {
		end, hasEnd = start+length, true
	}
	m.start, m.end, m.placed = start, end, hasStart && hasEnd
	if m.word == "" && !m.placed {
		return mention{}, nil, false
	}
	m.score, m.hasScore = probability(field(o, scoreKeys...))
	switch {
	case o["confidenceScore"] != nil && o["category"] != nil: // Azure counts as .NET draws text
		systems = []system{{unit: graphemeUnits}, {unit: codePoints}, {unit: utf16Units}}
	case o["start_offset"] != nil: // doccano: either, by the project's setting
		systems = []system{{unit: utf16Units}, {unit: graphemeUnits}, {unit: codePoints}}
	case o["characterOffsetBegin"] != nil: // CoreNLP: Java's strings
		systems = utf16
	}
	return m, systems, true
}

// extraction reads PaddleNLP's universal information extraction: an object per
// text, whose keys are the types. Relations inside are left out.
func extraction(list []object) (answer, bool) {
	a := answer{systems: exclusive}
	if len(list) != 1 || len(list[0]) == 0 {
		return a, false
	}
	for _, label := range sortedKeys(list[0]) {
		found, ok := objects(list[0][label])
		if !ok {
			return a, false
		}
		for _, o := range found {
			word, hasWord := stringField(o, "text")
			if !hasWord {
				return a, false
			}
			m := mention{label: label, word: word}
			start, hasStart := integer(o["start"])
			end, hasEnd := integer(o["end"])
			m.start, m.end, m.placed = start, end, hasStart && hasEnd
			m.score, m.hasScore = probability(field(o, scoreKeys...))
			a.mentions = append(a.mentions, m)
		}
	}
	return a, true
}

func sortedKeys(o object) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
