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
		c := table.of(r)
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
			out = n.appendDecomposed(out, table, r, pos, c&isIdeograph != 0)
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
func (n *normalizer) appendDecomposed(out []piece, table *classTable, r rune, pos int32, ideograph bool) []piece {
	var buf decomposition
	for d := buf.of(r); len(d) > 0; {
		x, size := utf8.DecodeRune(d)
		d = d[size:]
		if c := table.of(x); c&isMark == 0 {
			out = n.appendLower(out, x, pos, c, ideograph && n.splitIdeographs)
		}
	}
	return out
}

// decomposition is room for that of a Hangul syllable, which no table holds.
type decomposition [3 * utf8.UTFMax]byte

// of returns the full canonical decomposition of a composed r in UTF-8, valid
// until the next call.
func (buf *decomposition) of(r rune) []byte {
	// Unicode 15, section 3.12.
	const base, last, leading, vowel, trailing = 0xAC00, 0xD7A3, 0x1100, 0x1161, 0x11A7
	if base <= r && r <= last {
		s := r - base
		d := utf8.AppendRune(buf[:0], leading+s/(21*28))
		d = utf8.AppendRune(d, vowel+s%(21*28)/28)
		if s%28 != 0 {
			d = utf8.AppendRune(d, trailing+s%28)
		}
		return d
	}
	return norm.NFD.Properties(utf8.AppendRune(buf[:0], r)).Decomposition()
}

// mark is a code point on its way through canonical reordering.
type mark struct {
	r         rune
	class     uint8
	inserted  bool // not the first of its decomposition
	ideograph bool
}

// appendReordered is append for texts with combining marks that stay in the
// text and may change places with others. Hugging Face's alignment is then by
// place, not by origin: the nth code point after reordering stands for the nth
// before, and one that a decomposition inserted for the one before it.
func (n *normalizer) appendReordered(out []piece, text string, pos int32) ([]piece, int32) {
	table := bmp()
	var marks []mark
	var origin []int32
	for _, r := range text {
		c := table.of(r)
		if n.cleanText && c&isRemoved != 0 {
			pos++
			continue
		}
		if n.cleanText && c&isSpace != 0 {
			r = ' '
		}
		m := mark{r: r, ideograph: n.splitIdeographs && c&isIdeograph != 0}
		if c&isComposed == 0 {
			m.class = combining(r)
			marks = append(marks, m)
		} else {
			var buf decomposition
			for d := buf.of(r); len(d) > 0; m.inserted = true {
				x, size := utf8.DecodeRune(d)
				d = d[size:]
				m.r, m.class = x, combining(x)
				marks = append(marks, m)
			}
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
		at := origin[max(next-1, 0)]
		switch c := table.of(m.r); {
		case c&isMark != 0:
		case c&isSpace != 0:
			out = append(out, piece{pos: at, kind: gap})
		default:
			out = n.appendLower(out, m.r, at, c, m.ideograph)
		}
	}
	return out, pos
}
