package highlight

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a range of code points.
type span struct{ from, to int }

// search finds words in a text by their folded form.
type search struct {
	folded string
	// at[i] is the code point of the text that byte i of folded came from;
	// one more entry holds the number of code points.
	at []int
	// budget is how many bytes may still be looked through: answers with
	// thousands of misplaced words must not become quadratic.
	budget int
}

// search returns the text's index of folded words, made on first use.
func (x *textIndex) search() *search {
	if x.words != nil {
		return x.words
	}
	s := &search{budget: 1 << 28}
	var b strings.Builder
	for i, r := range x.runes {
		folded := foldRune(r)
		b.WriteString(folded)
		for range len(folded) {
			s.at = append(s.at, i)
		}
	}
	s.folded = b.String()
	s.at = append(s.at, len(x.runes))
	x.words = s
	return s
}

func foldRune(r rune) string {
	if r < utf8.RuneSelf {
		if unicode.IsSpace(r) {
			return ""
		}
		return string(unicode.ToLower(r))
	}
	return fold(string(r))
}

// span returns the code points of a range of folded bytes. A range that begins
// or ends inside what one code point became is no place for a word.
func (s *search) span(from, to int) (span, bool) {
	if from >= to || from > 0 && s.at[from-1] == s.at[from] || s.at[to-1] == s.at[to] {
		return span{}, false
	}
	return span{s.at[from], s.at[to-1] + 1}, true
}

// index is strings.Index from a byte on, within the budget.
func (s *search) index(word string, from int) int {
	if s.budget -= len(s.folded) - from; s.budget < 0 {
		return -1
	}
	i := strings.Index(s.folded[from:], word)
	if i < 0 {
		return -1
	}
	s.budget += len(s.folded) - from - i // what was not looked through
	return from + i
}

// only returns the place of a word that occurs exactly once.
func (s *search) only(word string) (from, to int, ok bool) {
	if word == "" {
		return 0, 0, false
	}
	i := s.index(word, 0)
	if i < 0 || s.budget < 0 || s.index(word, i+1) >= 0 || s.budget < 0 {
		return 0, 0, false
	}
	at, ok := s.span(i, i+len(word))
	return at.from, at.to, ok
}

// byWords places mentions without offsets. Services list them in the order of
// the text and without overlap, so a word's place is known where the earliest
// and the latest such reading agree; every other word must occur only once.
func (r *resolver) byWords(mentions []mention) {
	if len(mentions) == 0 {
		return
	}
	s := r.x.search()
	words := make([]string, len(mentions))
	for i, m := range mentions {
		words[i] = foldWord(m.word)
	}
	earliest, latest := s.readings(words)
	for i, m := range mentions {
		if from, to, ok := s.only(words[i]); ok {
			r.put(m, from, to)
			continue
		}
		if earliest == nil || earliest[i] != latest[i] || containedInAnother(words, i) {
			r.dropped++
			continue
		}
		at, ok := s.span(earliest[i], earliest[i]+len(words[i]))
		if !ok {
			r.dropped++
			continue
		}
		r.put(m, at.from, at.to)
	}
}

// readings returns the first and the last way to find all words in order, each
// as byte positions in the folded text, or nil.
func (s *search) readings(words []string) (earliest, latest []int) {
	earliest, latest = make([]int, len(words)), make([]int, len(words))
	at := 0
	for i, w := range words {
		if w == "" {
			return nil, nil
		}
		if at = s.index(w, at); at < 0 {
			return nil, nil
		}
		earliest[i] = at
		at += len(w)
	}
	end := len(s.folded)
	for i := len(words) - 1; i >= 0; i-- {
		at := strings.LastIndex(s.folded[:end], words[i])
		latest[i] = at
		end = at
	}
	return earliest, latest
}

// containedInAnother says whether another word has this one in it: then it may
// be nested, and the order tells nothing.
func containedInAnother(words []string, i int) bool {
	for _, w := range words[:min(len(words), 1000)] {
		if len(w) > len(words[i]) && strings.Contains(w, words[i]) {
			return true
		}
	}
	return len(words) > 1000
}

// placeInOrder finds pieces that follow one another in the text with nothing but
// white space between. It fails when they do not.
func placeInOrder(x *textIndex, pieces []string) ([]span, bool) {
	out := make([]span, len(pieces))
	at := 0
	for i, p := range pieces {
		from := at
		started := false
		for _, want := range strings.ToValidUTF8(p, "\uFFFD") {
			if unicode.IsSpace(want) {
				continue
			}
			for at < len(x.runes) && unicode.IsSpace(x.runes[at]) {
				at++
			}
			if at == len(x.runes) || x.runes[at] != want {
				return nil, false
			}
			if !started {
				from, started = at, true
			}
			at++
		}
		out[i] = span{from, at}
		if !started {
			out[i].to = from
		}
	}
	return out, true
}

func joinPieces(pieces []piece) string {
	var b strings.Builder
	for _, p := range pieces {
		b.WriteString(p.text)
	}
	return b.String()
}

// joinTokens puts a space where two tokens would otherwise become one word.
func joinTokens(tokens []string) string {
	var b strings.Builder
	var last rune
	for _, t := range tokens {
		first, _ := utf8.DecodeRuneInString(t)
		if spaced(last) && spaced(first) {
			b.WriteByte(' ')
		}
		b.WriteString(t)
		last, _ = utf8.DecodeLastRuneInString(t)
	}
	return b.String()
}

// spaced says whether words of this script are set apart by spaces.
func spaced(r rune) bool {
	return (unicode.IsLetter(r) || unicode.IsDigit(r)) && !wide(r)
}
