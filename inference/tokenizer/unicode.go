package tokenizer

import (
	"sort"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// runeRange is a range of code points, both ends included.
type runeRange struct{ lo, hi rune }

func in(table []runeRange, r rune) bool {
	i := sort.Search(len(table), func(i int) bool { return table[i].hi >= r })
	return i < len(table) && table[i].lo <= r
}

// class is what the steps of the normaliser and pre-tokeniser do with a code
// point, one bit per step.
type class uint8

const (
	isRemoved   class = 1 << iota // clean_text drops it
	isSpace                       // separates words
	isIdeograph                   // a word of its own, by handle_chinese_chars
	isPunct                       // a word of its own, by BertPreTokenizer
	isMark                        // strip_accents drops it
	isComposed                    // strip_accents decomposes it
	isUpper                       // lower-casing changes it
	isLateMark                    // reorders with its neighbours in NFD, yet is no mark that is dropped
)

// bmp caches classOf for the Basic Multilingual Plane: nearly all text.
var bmp = sync.OnceValue(func() *[0x10000]class {
	table := new([0x10000]class)
	for r := range rune(len(table)) {
		table[r] = computeClass(r)
	}
	return table
})

func computeClass(r rune) class {
	var c class
	if in(removed, r) {
		c |= isRemoved
	}
	if isWhite(r) {
		c |= isSpace
	}
	if in(ideographs, r) {
		c |= isIdeograph
	}
	if in(punctuation, r) {
		c |= isPunct
	}
	if in(marks, r) {
		c |= isMark
	}
	if in(decomposed, r) {
		c |= isComposed
	} else if c&isMark == 0 && combining(r) != 0 {
		c |= isLateMark
	}
	if r == dottedI || lower(r) != r {
		c |= isUpper
	}
	return c
}

// isWhite is Rust's char::is_whitespace, Unicode's White_Space.
func isWhite(r rune) bool { return unicode.Is(unicode.White_Space, r) }

// dottedI is the one code point whose lower case is two: i and U+0307.
const dottedI = 'İ'

func lower(r rune) rune {
	if l, ok := newLower[r]; ok {
		return l
	}
	return unicode.ToLower(r)
}

// combining returns the canonical combining class, which orders marks in NFD.
func combining(r rune) uint8 {
	var buf [4]byte
	return norm.NFD.Properties(utf8.AppendRune(buf[:0], r)).CCC()
}
