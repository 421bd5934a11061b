// Package tokenizer turns text into the token ids of a model, with the exact
// place of every token in the text.
//
// WordPiece equals Hugging Face's Rust tokenizers in ids and offsets;
// CharTokenizer serves the built-in models.
package tokenizer

// Token is one input of the network and where it came from: code points
// [Start, End) of the text, counted from 0. Bytes that are not UTF-8 count as
// one code point each, as in a Go range loop.
type Token struct {
	ID         int32
	Start, End int
}

// Tokenizer is immutable and safe for concurrent use.
type Tokenizer interface {
	// Encode returns the tokens of text in order, without the special tokens
	// that frame a sequence. Characters that the model does not see (white
	// space, control characters, stripped accents) lie between or inside
	// tokens. Tokens never overlap, except that several tokens made of one
	// character (a Hangul syllable taken apart) share its place.
	Encode(text string) []Token
	// Special returns the ids to put before and after a sequence; ok is false
	// for models that want none.
	Special() (cls, sep int32, ok bool)
}
