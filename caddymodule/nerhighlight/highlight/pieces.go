package highlight

import "strings"

// gradioPieces reads HighlightedText: [{"token","class_or_confidence"}].
func gradioPieces(list []object) ([]piece, bool) {
	pieces := make([]piece, 0, len(list))
	for _, o := range list {
		text, ok := stringField(o, "token")
		class, there := o["class_or_confidence"]
		if !ok || !there {
			return nil, false
		}
		p := piece{text: text}
		switch c := class.(type) {
		case nil:
		case string:
			p.label = c
		default:
			return nil, false // a heat map: numbers are no labels
		}
		pieces = append(pieces, p)
	}
	return pieces, true
}

// wordTags reads a text given in tagged words: PaddleNLP's and older Gradio's
// [[word, tag], …], or LAC's [[words], [tags]].
func (r *reader) wordTags(list [][]any) (answer, bool) {
	pairs, okPairs := wordPairs(list)
	columns, okColumns := wordColumns(list)
	if okPairs && okColumns { // two words or two columns of two
		if text, known := r.text(); known {
			_, okPairs = placeInOrder(newTextIndex(text), wordsOf(pairs))
		} else {
			okPairs = !allASCII(columns)
		}
		okColumns = !okPairs
	}
	switch {
	case okPairs:
		return answer{pieces: onlyEntities(pairs)}, true
	case okColumns:
		return answer{pieces: onlyEntities(columns)}, true
	}
	return answer{}, false
}

// text returns the request's text where there is one.
func (r *reader) text() (string, bool) {
	if len(r.texts) == 1 {
		return r.texts[0], true
	}
	return "", false
}

func wordPairs(list [][]any) ([]piece, bool) {
	pieces := make([]piece, 0, len(list))
	for _, pair := range list {
		if len(pair) != 2 {
			return nil, false
		}
		word, ok := pair[0].(string)
		if !ok {
			return nil, false
		}
		p := piece{text: word}
		if pair[1] != nil {
			if p.label, ok = pair[1].(string); !ok {
				return nil, false
			}
		}
		pieces = append(pieces, p)
	}
	return pieces, true
}

func wordColumns(list [][]any) ([]piece, bool) {
	if len(list) != 2 || len(list[0]) != len(list[1]) {
		return nil, false
	}
	words, okWords := stringsOf(list[0])
	tags, okTags := stringsOf(list[1])
	if !okWords || !okTags {
		return nil, false
	}
	pieces := make([]piece, len(words))
	for i, w := range words {
		pieces[i] = piece{text: w, label: tags[i]}
	}
	return pieces, true
}

func wordsOf(pieces []piece) []string {
	words := make([]string, len(pieces))
	for i, p := range pieces {
		words[i] = p.text
	}
	return words
}

func allASCII(pieces []piece) bool {
	for _, p := range pieces {
		for _, r := range p.label {
			if r > 127 {
				return false
			}
		}
	}
	return true
}

// onlyEntities takes away the labels that are parts of speech: LAC and PaddleNLP
// label every word, prepositions and full stops too.
func onlyEntities(pieces []piece) []piece {
	for i := range pieces {
		if !isEntityTag(pieces[i].label) {
			pieces[i].label = ""
		}
	}
	return pieces
}

// isEntityTag knows LAC's four types and the lower-case tags of the People's
// Daily that are names; PaddleNLP's classes of things end in 类. Any other tag
// in lower case is a part of speech.
func isEntityTag(tag string) bool {
	switch tag {
	case "nr", "ns", "nt", "nw", "nz":
		return true
	}
	if strings.Contains(tag, "类") {
		return true
	}
	if _, name := cutTag(tag); len(name) >= 2 && name == strings.ToUpper(name) {
		return !nonASCII(name) || canonicalType(name) != name
	}
	return len(tag) > 3 && !nonASCII(tag)
}

func nonASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) >= 0
}
