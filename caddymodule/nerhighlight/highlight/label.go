package highlight

import (
	"hash/fnv"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/width"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// maxLabel is the longest label shown, in code points.
const maxLabel = 32

// cleanLabel makes a label fit to be shown: letters, digits, marks, - _ . and
// space stay, everything else becomes _, and at most 32 code points.
func cleanLabel(label string) string {
	n := 0
	clean := strings.Map(func(r rune) rune {
		if n++; n > maxLabel {
			return -1
		}
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r), strings.ContainsRune("-_. /", r):
			return r
		}
		return '_'
	}, label)
	if clean = strings.TrimSpace(clean); clean == "" {
		return "_"
	}
	return clean
}

// canonicalType maps the names that label sets have for persons, places,
// organisations, dates and times to PER, LOC, ORG, GPE, DATE and TIME.
func canonicalType(label string) string { return decode.CanonicalType(label) }

// class returns the style class of a canonical type: its own for those that
// have a fixed look, else one of the generated ones, always the same.
func class(canonical string) string {
	if _, fixed := fixedLook(canonical); fixed {
		return "ner-" + canonical
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.ToUpper(canonical)))
	return "ner-x" + strconv.Itoa(int(h.Sum32()%generatedLooks))
}

// wide says whether a character is written without spaces around words: East
// Asian ideographs, kana, and full-width punctuation.
func wide(r rune) bool {
	if r < 0x1100 {
		return false
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return !unicode.Is(unicode.Hangul, r)
	default:
		return false
	}
}
