package highlight

import (
	"slices"
	"sort"
	"unicode"
	"unicode/utf8"
)

// batch holds the bytes of a page that wait for the model, and the text that
// was found in them.
type batch struct {
	raw []byte // not yet sent on
	// text of all blocks, in UTF-8, white space collapsed; at[i] is where in raw
	// its i-th code point comes from.
	text []byte
	at   []place32
	// nodes are the runs of text in raw that no tag interrupts: a mark may be
	// put into one but not across several.
	nodes []place32
	// blocks that are finished; the one being filled begins after the last.
	blocks []textRange
	open   textRange // its ends are the current lengths
	letter bool      // there is something in it to be found

	space    int32 // where white space began that has not been written yet, or -1
	newline  bool  // in it
	lastRune rune  // of the open block
}

// place32 is a range of bytes in raw. Several code points may share one (what a
// character reference or a byte sequence stands for is not divisible); an empty
// one is where an object stands in the line.
type place32 struct{ start, end int32 }

// textRange is a block: ranges of text, of at, and where it begins in raw.
type textRange struct {
	text, textEnd int
	at, atEnd     int
	raw           int
}

func (b *batch) keep(raw []byte) { b.raw = append(b.raw, raw...) }

// rune adds a code point that comes from raw[start:end).
func (b *batch) rune(r rune, start, end int32) {
	if b.space >= 0 {
		// A line break between characters that are written without spaces is
		// where the source was wrapped, not a space.
		wrapped := b.newline && wide(r) && wide(b.lastRune)
		if len(b.at) > b.open.at && !wrapped {
			b.text = append(b.text, ' ')
			b.at = append(b.at, place32{b.space, b.space + 1})
		}
		b.space = -1
	}
	b.letter = b.letter || unicode.IsLetter(r)
	b.text = utf8.AppendRune(b.text, r)
	b.at = append(b.at, place32{start, end})
	b.lastRune = r
}

func (b *batch) ascii(c byte, at int32) {
	if b.space >= 0 {
		b.rune(rune(c), at, at+1)
		return
	}
	b.letter = b.letter || c|0x20 >= 'a' && c|0x20 <= 'z'
	b.text = append(b.text, c)
	b.at = append(b.at, place32{at, at + 1})
	b.lastRune = rune(c)
}

func (b *batch) blank(c byte, at int32) {
	if b.space < 0 {
		b.space, b.newline = at, false
	}
	b.newline = b.newline || c == '\n' || c == '\r'
}

// barrier notes an object or a line break before the token at base of raw:
// entities do not cross it.
func (b *batch) barrier(base int, c byte) {
	b.space = -1
	if len(b.at) == b.open.at {
		return
	}
	b.text = append(b.text, c)
	b.at = append(b.at, place32{int32(base), int32(base)})
	b.lastRune = rune(c)
}

// endBlock finishes the open block before the token at base of raw. One without
// letters is forgotten.
func (b *batch) endBlock(base int) {
	if b.letter {
		b.open.textEnd, b.open.atEnd = len(b.text), len(b.at)
		b.blocks = append(b.blocks, b.open)
	} else {
		b.text, b.at = b.text[:b.open.text], b.at[:b.open.at]
	}
	b.open = textRange{text: len(b.text), at: len(b.at), raw: base}
	b.letter, b.lastRune, b.space = false, 0, -1
}

// cutBlock ends the open block after the last sentence that leaves it at most
// limit code points long, and opens the next with the rest.
func (b *batch) cutBlock(limit int) {
	for len(b.at)-b.open.at > limit {
		runes, size, cut, cutSize := 0, 0, 0, 0
		for runes < limit {
			r, n := utf8.DecodeRune(b.text[b.open.text+size:])
			runes++
			size += n
			switch r {
			case '。', '！', '？', '；', '!', '?', '\n':
				cut, cutSize = runes, size
			}
		}
		if cut < max(limit/2, 1) {
			cut, cutSize = limit, size
		}
		// Not inside what one character reference stands for.
		for i := b.open.at + cut; cut < len(b.at)-b.open.at && b.at[i] == b.at[i-1]; i++ {
			_, n := utf8.DecodeRune(b.text[b.open.text+cutSize:])
			cut++
			cutSize += n
		}
		done := b.open
		done.textEnd, done.atEnd = b.open.text+cutSize, b.open.at+cut
		b.blocks = append(b.blocks, done)
		b.open.text, b.open.at = done.textEnd, done.atEnd
		if b.open.at < len(b.at) {
			b.open.raw = int(b.at[b.open.at].start)
		}
	}
}

// sendable is how many bytes of raw stand before the open block's text.
func (b *batch) sendable() int {
	if len(b.at) == b.open.at {
		b.open.raw = len(b.raw)
	}
	return min(b.open.raw, len(b.raw))
}

// sent forgets the first n bytes of raw, and all blocks; what is left is the
// open block.
func (b *batch) sent(n int) {
	b.raw = b.raw[:copy(b.raw, b.raw[n:])]
	b.text = b.text[:copy(b.text, b.text[b.open.text:])]
	b.at = b.at[:copy(b.at, b.at[b.open.at:])]
	for i := range b.at {
		b.at[i].start -= int32(n)
		b.at[i].end -= int32(n)
	}
	first := sort.Search(len(b.nodes), func(i int) bool { return int(b.nodes[i].end) > n })
	b.nodes = slices.Delete(b.nodes, 0, first)
	for i := range b.nodes {
		b.nodes[i].start = max(b.nodes[i].start-int32(n), 0)
		b.nodes[i].end -= int32(n)
	}
	if b.space >= 0 {
		b.space = max(b.space-int32(n), 0)
	}
	b.blocks = b.blocks[:0]
	b.open = textRange{raw: b.open.raw - n}
}

// markable says whether an entity of a block lies on text that can be marked:
// inside the block, not across an object, not on a part of a character.
func (b *batch) markable(block textRange, e Entity) bool {
	at := b.at[block.at:block.atEnd]
	if e.Start < 0 || e.End > len(at) || e.Start >= e.End {
		return false
	}
	for _, p := range at[e.Start:e.End] {
		if p.start == p.end {
			return false
		}
	}
	return (e.Start == 0 || at[e.Start-1] != at[e.Start]) &&
		(e.End == len(at) || at[e.End] != at[e.End-1])
}
