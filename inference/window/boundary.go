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
	t := 0           // token being walked through
	var now boundary // what the text so far would allow
	var dot bool     // an ASCII full stop that needs a space to count
	pos := 0
	for _, r := range text {
		for t < len(tokens) && tokens[t].Start <= pos {
			if tokens[t].Start == pos && !isCloser(r) {
				quality[t] = now
			}
			t++
		}
		switch {
		case r == '\n' || r == '。' || r == '！' || r == '？' || r == '；' || r == '!' || r == '?' || r == '…':
			now = afterSentence
		case r == '.':
			now, dot = midWord, true
			pos++
			continue
		case isComma(r):
			now = afterComma
		case isSpace(r):
			if dot {
				now = afterSentence
			}
			now = max(now, betweenWords)
		case isCloser(r):
			// keeps what the character before it allowed
		case isIdeograph(r):
			now = betweenWords
		default:
			now = midWord
		}
		dot = dot && isCloser(r)
		pos++
	}
	return quality
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
