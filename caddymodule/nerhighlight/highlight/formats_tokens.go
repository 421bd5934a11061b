package highlight

import (
	"strings"
)

// Formats whose entities count tokens, or may.

// readSpacy reads Doc.to_json: entities count code points, spans and tokens are
// beside them. The `ents` alone are left to the common reader.
func readSpacy(o object) (answer, bool) {
	tokens, ok := objects(o["tokens"])
	text, hasText := stringField(o, "text")
	groups, hasSpans := o["spans"].(object)
	if !ok || !hasText || !hasSpans && o["ents"] == nil {
		return answer{}, false
	}
	a := answer{text: text, hasText: true, systems: exclusive}
	if ents, ok := objects(o["ents"]); ok && len(ents) > 0 {
		list, ok := entityList(ents)
		if !ok {
			return answer{}, false
		}
		a.mentions = list.mentions
	}
	for _, name := range sortedKeys(groups) {
		spans, ok := objects(groups[name])
		if !ok {
			return answer{}, false
		}
		for _, s := range spans {
			m, _, ok := entity(s)
			first, okFirst := integer(s["start_token"])
			last, okLast := integer(s["end_token"])
			if !ok && okFirst && okLast && first < last && last <= len(tokens) {
				label, _ := stringField(s, "label")
				from, okFrom := integer(tokens[first]["start"])
				to, okTo := integer(tokens[last-1]["end"])
				m, ok = mention{label: label, start: from, end: to, placed: true}, okFrom && okTo && label != ""
			}
			if !ok {
				return answer{}, false
			}
			a.mentions = append(a.mentions, m)
		}
	}
	return a, true
}

// readDisplacySpans reads displaCy's manual span style: words as tokens, spans
// that count these.
func readDisplacySpans(o object) (answer, bool) {
	tokens, okTokens := stringsOf(o["tokens"])
	spans, okSpans := objects(o["spans"])
	if !okTokens || !okSpans {
		return answer{}, false
	}
	a := answer{tokens: tokens, systems: exclusive, mentions: []mention{}}
	for _, s := range spans {
		label, _ := stringField(s, "label")
		start, okStart := integer(s["start_token"])
		end, okEnd := integer(s["end_token"])
		if label == "" || !okStart || !okEnd {
			return answer{}, false
		}
		a.mentions = append(a.mentions, mention{label: label, start: start, end: end, placed: true})
	}
	return a, true
}

// readHanLP reads {"tok/fine": [[…]], "ner/msra": [[["北京","LOCATION",2,3]]]},
// with a sentence per element or, for a single sentence, without that level.
func readHanLP(o object) (answer, bool) {
	tokKey, nerKey := "", ""
	for _, key := range sortedKeys(o) {
		kind, _, _ := strings.Cut(key, "/")
		if kind == "tok" && tokKey == "" {
			tokKey = key
		}
		if kind == "ner" && nerKey == "" {
			nerKey = key
		}
	}
	if tokKey == "" || nerKey == "" {
		return answer{}, false
	}
	return tokenAnswer(o[tokKey], o[nerKey], func(e []any) (m mention, ok bool) {
		if len(e) != 4 {
			return m, false
		}
		m.word, _ = e[0].(string)
		m.label, _ = e[1].(string)
		start, okStart := integer(e[2])
		end, okEnd := integer(e[3])
		m.start, m.end, m.placed = start, end, true
		return m, m.label != "" && okStart && okEnd
	})
}

// readLTP reads LTP 4's {"seg": [[…]], "ner": [[…]]}, whose entities are
// [label, first, last] or [label, words] or [label, words, first, last].
func readLTP(o object) (answer, bool) {
	words := field(o, "seg", "cws", "words")
	if words == nil || o["ner"] == nil {
		return answer{}, false
	}
	return tokenAnswer(words, o["ner"], func(e []any) (m mention, ok bool) {
		if len(e) < 2 {
			return m, false
		}
		m.label, _ = e[0].(string)
		if m.label == "" {
			return m, false
		}
		rest := e[1:]
		if word, isWord := rest[0].(string); isWord {
			m.word = word
			rest = rest[1:]
		}
		if len(rest) == 2 {
			start, okStart := integer(rest[0])
			end, okEnd := integer(rest[1])
			if !okStart || !okEnd {
				return m, false
			}
			if m.word == "" {
				end++ // the last token counts in
			}
			m.start, m.end, m.placed = start, end, true
		}
		return m, m.word != "" || m.placed
	})
}

// tokenAnswer joins the sentences of words and of entities, whose offsets count
// words of their sentence.
func tokenAnswer(words, entities any, read func([]any) (mention, bool)) (answer, bool) {
	a := answer{systems: exclusive, tokens: []string{}, mentions: []mention{}}
	sentences, nested := arrays(words)
	if !nested {
		flat, ok := stringsOf(words)
		if !ok {
			return answer{}, false
		}
		all, ok := arrays(entities)
		if !ok {
			return answer{}, false
		}
		return a, a.sentence(flat, all, read)
	}
	perSentence, ok := arrays(entities)
	if !ok || len(perSentence) != len(sentences) {
		return answer{}, false
	}
	for i, s := range sentences {
		flat, ok := stringsOf(s)
		if !ok {
			return answer{}, false
		}
		found, ok := arrays(perSentence[i])
		if !ok || !a.sentence(flat, found, read) {
			return answer{}, false
		}
	}
	return a, true
}

func (a *answer) sentence(words []string, entities [][]any, read func([]any) (mention, bool)) bool {
	base := len(a.tokens)
	a.tokens = append(a.tokens, words...)
	for _, e := range entities {
		m, ok := read(e)
		if !ok {
			return false
		}
		if m.start > len(words) || m.end > len(words)+1 {
			m.placed = false // outside its sentence
		}
		if !m.placed && m.word != "" {
			m = findTokens(words, m)
		}
		m.start += base
		m.end += base
		a.mentions = append(a.mentions, m)
	}
	return true
}

// findTokens looks for the only run of tokens that makes a mention's words.
func findTokens(words []string, m mention) mention {
	for i := range words {
		joined := ""
		for j := i; j < len(words) && len(joined) < len(m.word); j++ {
			if joined += words[j]; joined == m.word {
				if m.placed {
					m.placed = false // twice
					return m
				}
				m.start, m.end, m.placed = i, j+1, true
			}
		}
	}
	return m
}
