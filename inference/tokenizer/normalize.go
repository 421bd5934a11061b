package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer is BertNormalizer followed by BertPreTokenizer.
type normalizer struct {
	cleanText, splitIdeographs, stripAccents, lowercase bool
}

// piece is one normalised code point.
type piece struct {
	r    rune
	pos  int32 // index of the code point of the text that it came from
	kind kind
}

// kind is what the pre-tokeniser makes of a code point.
type kind uint8

const (
	letter   kind = iota // joins its neighbours to a word
	gap                  // separates words
	isolated             // is a word of its own
)

// append adds the normalised form of text, whose first code point has index
// pos, and returns the index after its last. Every code point keeps its own
// origin, so no alignment has to be computed afterwards; only combining marks
// that change places need the slow path.
func (n *normalizer) append(out []piece, text string, pos int32) ([]piece, int32) {
	table := bmp()
	from, first := len(out), pos
	for _, r := range text {
		var c class
		if uint32(r) < uint32(len(table)) {
			c = table[r]
		} else {
			c = computeClass(r)
		}
		switch {
		case n.cleanText && c&isRemoved != 0:
		case c == 0 || c == isRemoved:
			out = append(out, piece{r: r, pos: pos})
		case c&isSpace != 0:
			out = append(out, piece{pos: pos, kind: gap})
		case n.stripAccents && c&isMark != 0:
		case n.stripAccents && c&isLateMark != 0:
			return n.appendReordered(out[:from], text, first)
		case n.stripAccents && c&isComposed != 0:
			out = n.appendDecomposed(out, r, pos, c&isIdeograph != 0)
		default:
			out = n.appendLower(out, r, pos, c, n.splitIdeographs && c&isIdeograph != 0)
		}
		pos++
	}
	return out, pos
}

// appendLower adds one code point that is its own decomposition.
func (n *normalizer) appendLower(out []piece, r rune, pos int32, c class, alone bool) []piece {
	p := piece{r: r, pos: pos}
	if alone || c&isPunct != 0 {
		p.kind = isolated
	}
	if !n.lowercase || c&isUpper == 0 {
		return append(out, p)
	}
	if r == dottedI {
		p.r = 'i'
		return append(out, p, piece{r: '\u0307', pos: pos, kind: p.kind})
	}
	p.r = lower(r)
	return append(out, p)
}

// appendDecomposed adds the canonical decomposition of r less its marks. The
// result decides what is punctuation: U+2329 becomes U+3008.
func (n *normalizer) appendDecomposed(out []piece, r rune, pos int32, ideograph bool) []piece {
	var buf [utf8.UTFMax]byte
	for _, d := range decompose(buf[:0], r) {
		c := computeClass(d)
		if c&isMark == 0 {
			out = n.appendLower(out, d, pos, c, ideograph && n.splitIdeographs)
		}
	}
	return out
}

func decompose(buf []byte, r rune) string {
	return norm.NFD.String(string(utf8.AppendRune(buf, r)))
}

// mark is a code point on its way through canonical reordering.
type mark struct {
	r         rune
	pos       int32
	class     uint8
	inserted  bool // not the first of its decomposition
	ideograph bool
}

// appendReordered is append for texts with combining marks that stay in the
// text and may change places with others. Hugging Face's alignment is then by
// place, not by origin: the nth code point after reordering stands for the nth
// before, and one that a decomposition inserted for the one before it.
func (n *normalizer) appendReordered(out []piece, text string, pos int32) ([]piece, int32) {
	var marks []mark
	var origin []int32
	for _, r := range text {
		c := computeClass(r)
		if n.cleanText && c&isRemoved != 0 {
			pos++
			continue
		}
		if n.cleanText && c&isSpace != 0 {
			r = ' '
		}
		var buf [utf8.UTFMax]byte
		d := string(utf8.AppendRune(buf[:0], r))
		if c&isComposed != 0 {
			d = decompose(buf[:0], r)
		}
		for i, x := range d {
			marks = append(marks, mark{
				r: x, class: combining(x), inserted: i > 0,
				ideograph: n.splitIdeographs && c&isIdeograph != 0,
			})
		}
		origin = append(origin, pos)
		pos++
	}
	for i := 0; i < len(marks); {
		j := i
		for j < len(marks) && marks[j].class != 0 {
			j++
		}
		slices.SortStableFunc(marks[i:j], func(a, b mark) int { return int(a.class) - int(b.class) })
		i = j + 1
	}
	next := 0
	for _, m := range marks {
		if !m.inserted {
			next++
		}
		m.pos = 0
		if next > 0 {
			m.pos = origin[next-1]
		}
		switch c := computeClass(m.r); {
		case c&isMark != 0:
		case c&isSpace != 0:
			out = append(out, piece{pos: m.pos, kind: gap})
		default:
			out = n.appendLower(out, m.r, m.pos, c, m.ideograph)
		}
	}
	return out, pos
}
