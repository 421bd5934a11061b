package tokenizer

import (
	"strings"
	"sync"
)

// wordPiece is the WordPiece model: the longest piece of the vocabulary first,
// word by word; a word that cannot be put together is one unknown token.
type wordPiece struct {
	norm     normalizer
	vocab    trie
	unk      int32
	maxChars int // longer words are unknown
	special  specials
	cls, sep int32
	framed   bool // cls and sep exist

	pool sync.Pool // *[]piece
}

// Special implements Tokenizer.
func (w *wordPiece) Special() (cls, sep int32, ok bool) { return w.cls, w.sep, w.framed }

// Encode implements Tokenizer.
func (w *wordPiece) Encode(text string) []Token {
	if text == "" {
		return nil
	}
	buf, _ := w.pool.Get().(*[]piece)
	if buf == nil {
		buf = new([]piece)
	}
	// A token for every three bytes fits Chinese; append copes with the rest.
	out := make([]Token, 0, len(text)/3+4)
	var pos int32
	for text != "" {
		before, id, match, rest := w.special.next(text)
		pieces, next := w.norm.append((*buf)[:0], before, pos)
		out = w.words(out, pieces)
		*buf = pieces
		pos = next
		if match != "" {
			end := pos + int32(runeCount(match))
			out = append(out, Token{ID: id, Start: int(pos), End: int(end)})
			pos = end
		}
		text = rest
	}
	if cap(*buf) <= maxPooled {
		w.pool.Put(buf)
	}
	return out
}

// maxPooled keeps one enormous text from holding its memory for ever.
const maxPooled = 1 << 16

// words cuts normalised text into words and those into tokens.
func (w *wordPiece) words(out []Token, pieces []piece) []Token {
	for i := 0; i < len(pieces); {
		switch pieces[i].kind {
		case gap:
			i++
		case isolated:
			out = w.word(out, pieces[i:i+1])
			i++
		default:
			j := i + 1
			for j < len(pieces) && pieces[j].kind == letter {
				j++
			}
			out = w.word(out, pieces[i:j])
			i = j
		}
	}
	return out
}

func (w *wordPiece) word(out []Token, word []piece) []Token {
	if len(word) > w.maxChars {
		return append(out, w.unknown(word))
	}
	mark := len(out)
	root := trieStart
	for i := 0; i < len(word); {
		id, length := w.vocab.longest(root, word[i:])
		if length == 0 {
			return append(out[:mark], w.unknown(word))
		}
		out = append(out, Token{ID: id, Start: int(word[i].pos), End: int(word[i+length-1].pos) + 1})
		i += length
		root = trieContinue
	}
	return out
}

func (w *wordPiece) unknown(word []piece) Token {
	return Token{ID: w.unk, Start: int(word[0].pos), End: int(word[len(word)-1].pos) + 1}
}

// trie finds the longest piece at a place without building strings. All nodes
// share one map from (node, code point) to child.
type trie struct {
	child map[uint64]int32
	id    []int32 // by node, -1 where no piece ends
}

// The nodes that pieces grow from: those that begin a word and, without their
// prefix ("##"), those that continue one.
const (
	trieStart int32 = iota
	trieContinue
)

func newTrie(vocab map[string]int32, prefix string) trie {
	t := trie{child: make(map[uint64]int32, 2*len(vocab)), id: []int32{-1, -1}}
	for piece, id := range vocab {
		t.add(trieStart, piece, id)
		if rest, ok := strings.CutPrefix(piece, prefix); ok {
			t.add(trieContinue, rest, id)
		}
	}
	return t
}

func (t *trie) add(node int32, piece string, id int32) {
	if piece == "" {
		return
	}
	for _, r := range piece {
		key := uint64(node)<<32 | uint64(uint32(r))
		next, ok := t.child[key]
		if !ok {
			next = int32(len(t.id))
			t.id = append(t.id, -1)
			t.child[key] = next
		}
		node = next
	}
	t.id[node] = id
}

func (t *trie) longest(node int32, word []piece) (id int32, length int) {
	for i := range word {
		next, ok := t.child[uint64(node)<<32|uint64(uint32(word[i].r))]
		if !ok {
			break
		}
		node = next
		if t.id[node] >= 0 {
			id, length = t.id[node], i+1
		}
	}
	return id, length
}
