package window

import "github.com/caddy-infer/caddy-infer/inference/tokenizer"

// boundary says how good a place for a cut is.
type boundary uint8

const (
	midWord boundary = iota
	betweenWords
	afterComma
	afterSentence
)

// boundaries rates the place before every token, by the characters around it.
// Closing quotes and brackets belong to the sentence that they follow.
func boundaries(tokens []tokenizer.Token, text string) []boundary {
	quality := make([]boundary, len(tokens)+1)
	t, pos := 0, 0
	var before punctuation
	for _, r := range text {
		for t < len(tokens) && tokens[t].Start <= pos {
			// A token that shares its character with the one before gets no
			// rating: the place is inside the character.
			if t > 0 && tokens[t-1].End <= pos {
				quality[t] = before.rate(r)
			}
			t++
		}
		before.add(r)
		pos++
	}
	return quality
}

// punctuation remembers what the characters so far allow at the next place.
type punctuation struct {
	allows boundary
	// dot is an ASCII full stop that ends a sentence only if a space follows;
	// otherwise it stands in 3.14 or example.com.
	dot bool
}

// rate says how good the place before r is.
func (p *punctuation) rate(r rune) boundary {
	switch {
	case isCloser(r):
		return midWord
	case p.allows == midWord && isIdeograph(r):
		return betweenWords
	}
	return p.allows
}

func (p *punctuation) add(r rune) {
	switch {
	case isCloser(r):
		return // keeps what the character before it allowed
	case isSentenceEnd(r), isSpace(r) && p.dot:
		p.allows = afterSentence
	case isSpace(r):
		p.allows = max(p.allows, betweenWords)
	case isComma(r):
		p.allows = afterComma
	case isIdeograph(r):
		p.allows = betweenWords
	default:
		p.allows = midWord
	}
	p.dot = r == '.'
}

func isSentenceEnd(r rune) bool {
	switch r {
	case '\n', '。', '！', '？', '；', '!', '?', '…':
		return true
	}
	return false
}

func isComma(r rune) bool {
	switch r {
	case '，', ',', '、', '：', ':', ';', '—':
		return true
	}
	return false
}

func isSpace(r rune) bool {
	switch r {
	case ' ', '\t', '\r', '\u00a0', '\u3000':
		return true
	}
	return false
}

func isCloser(r rune) bool {
	switch r {
	case '”', '’', '"', '\'', '」', '』', '）', ')', '》', '】', ']':
		return true
	}
	return false
}

// isIdeograph reports scripts that are written without spaces, in which any
// place may be a word boundary.
func isIdeograph(r rune) bool {
	return r >= 0x3040 && r <= 0x9fff || r >= 0xf900 && r <= 0xfaff || r >= 0x20000 && r <= 0x3ffff
}
