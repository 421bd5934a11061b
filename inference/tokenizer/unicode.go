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
	isLateMark                    // holds a combining mark that is not dropped, so its place in NFD matters
)

// classTable holds the classes of the Basic Multilingual Plane: nearly all
// text.
type classTable [0x10000]class

func (t *classTable) of(r rune) class {
	if uint32(r) < uint32(len(t)) {
		return t[r]
	}
	return computeClass(r)
}

// bmp takes about 10 ms to compute, once in a process.
var bmp = sync.OnceValue(func() *classTable {
	table := new(classTable)
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
	}
	if c&isMark == 0 && keepsMark(r) {
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

// combining returns the canonical combining class, which orders marks in NFD,
// of the code points that Hugging Face knows to have one.
func combining(r rune) uint8 {
	if r < 0x300 || !in(reordered, r) {
		return 0
	}
	var buf [4]byte
	return norm.NFD.Properties(utf8.AppendRune(buf[:0], r)).CCC()
}

// keepsMark reports a combining mark in r's decomposition that strip_accents
// leaves there: U+302E, musical stems, some vowel signs.
func keepsMark(r rune) bool {
	if !in(decomposed, r) {
		return combining(r) != 0
	}
	var buf decomposition
	for _, d := range string(buf.of(r)) {
		if combining(d) != 0 && !in(marks, d) {
			return true
		}
	}
	return false
}
