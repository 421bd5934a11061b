package tokenizer

import (
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// chars gives one token for every visible code point: the tokenizer of the
// built-in models. Code points are folded before they are looked up: to the
// usual width, to lower case, and by a map such as traditional to simplified.
type chars struct {
	// bmp is fold.id of the whole Basic Multilingual Plane.
	bmp  [0x10000]int32
	fold charFold
}

// charFold is the lookup of one code point.
type charFold struct {
	vocab        map[rune]int32
	unk          int32
	width, lower bool
	table        map[rune]rune
}

// Special implements Tokenizer: the built-in models want no frame.
func (*chars) Special() (cls, sep int32, ok bool) { return 0, 0, false }

// Encode implements Tokenizer.
func (c *chars) Encode(text string) []Token {
	if text == "" {
		return nil
	}
	out := make([]Token, 0, utf8.RuneCountInString(text))
	pos := 0
	for _, r := range text {
		var id int32
		if uint32(r) < uint32(len(c.bmp)) {
			id = c.bmp[r]
		} else {
			id = c.fold.id(r)
		}
		if id >= 0 {
			out = append(out, Token{ID: id, Start: pos, End: pos + 1})
		}
		pos++
	}
	return out
}

// id returns the token of r, -1 for none.
func (f *charFold) id(r rune) int32 {
	if unicode.IsSpace(r) || unicode.In(r, unicode.Cc, unicode.Cf) {
		return -1
	}
	if f.width {
		if w := width.LookupRune(r).Folded(); w != 0 {
			r = w
		}
	}
	if f.lower && r != dottedI {
		r = unicode.ToLower(r)
	}
	if to, ok := f.table[r]; ok {
		r = to
	}
	if id, ok := f.vocab[r]; ok {
		return id
	}
	return f.unk
}

func loadChars(fsys fs.FS, cfg config) (Tokenizer, error) {
	vocab, err := readVocab(fsys)
	if err != nil {
		return nil, err
	}
	unk, ok := vocab[cfg.Unk.or("[UNK]")]
	if !ok {
		return nil, fmt.Errorf("reading %s: the unknown token %q is not in the vocabulary", vocabFile, cfg.Unk.or("[UNK]"))
	}
	c := &chars{fold: charFold{
		vocab: make(map[rune]int32, len(vocab)), unk: unk,
		width: cfg.FoldWidth, lower: or(cfg.Lower, true),
	}}
	for token, id := range vocab {
		if r, size := utf8.DecodeRuneInString(token); size > 0 && size == len(token) {
			c.fold.vocab[r] = id
		}
	}
	if cfg.CharMap != "" {
		if c.fold.table, err = readCharMap(fsys, cfg.CharMap); err != nil {
			return nil, err
		}
	}
	for r := range rune(len(c.bmp)) {
		c.bmp[r] = c.fold.id(r)
	}
	return c, nil
}

// readCharMap reads lines of two code points, from and to.
func readCharMap(fsys fs.FS, name string) (map[rune]rune, error) {
	data, err := readFile(fsys, name)
	if err != nil {
		return nil, err
	}
	table := map[rune]rune{}
	number := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n"), "\n") {
		number++
		line = strings.TrimSuffix(line, "\r")
		pair := []rune(line)
		if len(pair) != 2 {
			return nil, fmt.Errorf("reading %s: line %d has %d code points; each line is two, from and to", name, number, len(pair))
		}
		table[pair[0]] = pair[1]
	}
	return table, nil
}
