package highlight

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
	"golang.org/x/text/unicode/norm"
)

// unit is what the offsets of an answer count.
type unit int

const (
	codePoints unit = iota
	utf16Units
	byteUnits
	graphemeUnits
	units // their number
)

// system is a way to read a pair of offsets.
type system struct {
	unit      unit
	inclusive bool // the end is the last one inside
}

// textIndex converts offsets of one text.
type textIndex struct {
	text  string
	runes []rune
	// starts[u] holds the offset of every code point in unit u, and the
	// length of the text at the end. Nil until needed; that of code points is
	// never needed.
	starts [units][]int
	words  *search
}

func newTextIndex(text string) *textIndex {
	return &textIndex{text: text, runes: []rune(text)}
}

// codePoint returns the code point that begins at an offset in units of u, or
// the length of the text for its end. An offset inside a code point is an error.
func (x *textIndex) codePoint(u unit, offset int) (int, bool) {
	if u == codePoints {
		return offset, 0 <= offset && offset <= len(x.runes)
	}
	if x.starts[u] == nil {
		x.starts[u] = x.count(u)
	}
	starts := x.starts[u]
	i := sort.SearchInts(starts, offset)
	return i, i < len(starts) && starts[i] == offset
}

func (x *textIndex) count(u unit) []int {
	starts := make([]int, 0, len(x.runes)+1)
	at := 0
	if u == graphemeUnits {
		// All code points of a grapheme share its offset; the search finds
		// the first of them, so none is cut.
		for g := graphemes.FromString(x.text); g.Next(); at++ {
			n := utf8.RuneCountInString(g.Value())
			starts = append(starts, at)
			for range n - 1 {
				starts = append(starts, at)
			}
		}
		return append(starts, at)
	}
	for _, r := range x.text {
		starts = append(starts, at)
		if u == utf16Units && r > 0xffff {
			at++
		}
		if u == byteUnits {
			at += utf8.RuneLen(r) - 1
		}
		at++
	}
	return append(starts, at)
}

// span reads a pair of offsets. The result is a non-empty range of code points.
func (x *textIndex) span(s system, start, end int) (from, to int, ok bool) {
	if s.inclusive {
		if end == int(^uint(0)>>1) {
			return 0, 0, false
		}
		end++
	}
	from, okFrom := x.codePoint(s.unit, start)
	to, okTo := x.codePoint(s.unit, end)
	return from, to, okFrom && okTo && from < to
}

// slice returns the code points [from, to) as text.
func (x *textIndex) slice(from, to int) string { return string(x.runes[from:to]) }

// fold makes a word comparable with the text it came from: tokenizers change
// width and case, take accents off, put spaces between Chinese characters and
// marks before word pieces.
func fold(s string) string {
	s = norm.NFKD.String(s)
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.Is(unicode.Mn, r), r == '▁', r == 'Ġ', r == 'Ċ':
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// foldWord is fold for a word of an answer, which may be a word piece.
func foldWord(s string) string {
	return fold(strings.ReplaceAll(strings.TrimSpace(s), "##", ""))
}

// sameWord says whether a word of an answer is this stretch of the text.
func sameWord(word, text string) bool {
	return word == text || foldWord(word) == fold(text)
}

// blank says whether nothing but white space is between two places.
func (x *textIndex) blank(from, to int) bool {
	if from > to {
		return false
	}
	for _, r := range x.runes[from:to] {
		if !unicode.IsSpace(r) {
			return false
		}
	}
	return true
}
