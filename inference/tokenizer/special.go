package tokenizer

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// special is a token that is looked for in the text itself, before anything
// is normalised: "[SEP]" in a text becomes the separator, as in Hugging Face's
// tokenizers.
type special struct {
	content string
	id      int32
	// left and right take the white space beside it along; whole wants no
	// word character beside it.
	left, right, whole bool
}

// specials is sorted so that the longest of several matches comes first.
type specials struct {
	list  []special
	first [256]bool // the bytes that any of them begins with
}

func newSpecials(list []special) specials {
	s := specials{list: list}
	sort.SliceStable(s.list, func(i, j int) bool { return len(s.list[i].content) > len(s.list[j].content) })
	for _, t := range list {
		s.first[t.content[0]] = true
	}
	return s
}

// next splits text at the first special token. Without one, match is empty
// and before is all of text.
func (s *specials) next(text string) (before string, id int32, match, rest string) {
	for i := 0; i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		for _, t := range s.list {
			if !strings.HasPrefix(text[i:], t.content) {
				continue
			}
			from, to := i, i+len(t.content)
			if t.whole && (endsInWord(text[:from]) || beginsWithWord(text[to:])) {
				i = to - 1 // this match is spent, as in an Aho-Corasick scan
				break
			}
			if t.left {
				from = len(strings.TrimRightFunc(text[:from], isWhite))
			}
			if t.right {
				to = len(text) - len(strings.TrimLeftFunc(text[to:], isWhite))
			}
			return text[:from], t.id, text[from:to], text[to:]
		}
	}
	return text, 0, "", ""
}

func endsInWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return s != "" && isWordRune(r)
}

func beginsWithWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && isWordRune(r)
}

// isWordRune is \w of Rust's regex crate.
func isWordRune(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Join_Control, unicode.Other_Alphabetic)
}

func runeCount(s string) int { return utf8.RuneCountInString(s) }
