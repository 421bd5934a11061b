package tokenizer

import (
	"encoding/json"
	"fmt"
)

// fromJSON reads Hugging Face's tokenizer.json. Only the pipeline of BERT is
// supported; whatever else the file asks for is named in the error, because a
// tokenizer that is nearly right gives wrong answers without a sign.
func fromJSON(data []byte, cfg config) (Tokenizer, error) {
	var file struct {
		AddedTokens []added `json:"added_tokens"`
		Normalizer  *struct {
			Type         string `json:"type"`
			CleanText    *bool  `json:"clean_text"`
			ChineseChars *bool  `json:"handle_chinese_chars"`
			StripAccents *bool  `json:"strip_accents"`
			Lowercase    *bool  `json:"lowercase"`
		} `json:"normalizer"`
		PreTokenizer *struct {
			Type string `json:"type"`
		} `json:"pre_tokenizer"`
		Model struct {
			Type     string          `json:"type"`
			Unk      string          `json:"unk_token"`
			Prefix   *string         `json:"continuing_subword_prefix"`
			MaxChars *int            `json:"max_input_chars_per_word"`
			Vocab    json.RawMessage `json:"vocab"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("reading %s: %w", jsonFile, err)
	}
	unsupported := func(part, got, want string) error {
		return fmt.Errorf("reading %s: the %s %q is not supported, only %s", jsonFile, part, got, want)
	}
	// The oldest files of this format leave out the model's type.
	if t := file.Model.Type; t != "WordPiece" && t != "" {
		return nil, unsupported("model", t, "WordPiece")
	}
	if file.Normalizer == nil {
		return nil, unsupported("normalizer", "null", "BertNormalizer")
	}
	if t := file.Normalizer.Type; t != "BertNormalizer" {
		return nil, unsupported("normalizer", t, "BertNormalizer")
	}
	if file.PreTokenizer == nil {
		return nil, unsupported("pre_tokenizer", "null", "BertPreTokenizer")
	}
	if t := file.PreTokenizer.Type; t != "BertPreTokenizer" {
		return nil, unsupported("pre_tokenizer", t, "BertPreTokenizer")
	}
	var vocab map[string]int32
	if err := json.Unmarshal(file.Model.Vocab, &vocab); err != nil {
		return nil, fmt.Errorf("reading %s: the vocabulary of the model: %w", jsonFile, err)
	}
	s := wordPieceSettings{
		norm: normalizer{
			cleanText:       or(file.Normalizer.CleanText, true),
			splitIdeographs: or(file.Normalizer.ChineseChars, true),
			lowercase:       or(file.Normalizer.Lowercase, true),
		},
		accents:  file.Normalizer.StripAccents,
		unk:      file.Model.Unk,
		prefix:   or(file.Model.Prefix, "##"),
		maxChars: or(file.Model.MaxChars, defaultMaxChars),
		added:    file.AddedTokens,
	}
	if s.unk == "" {
		s.unk = "[UNK]"
	}
	if s.maxChars < 0 {
		return nil, fmt.Errorf("reading %s: max_input_chars_per_word is %d", jsonFile, s.maxChars)
	}
	return newWordPiece(jsonFile, vocab, s, cfg)
}

func or[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
