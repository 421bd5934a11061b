package tokenizer

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

func goldenVocab(t testing.TB, config string) Tokenizer {
	t.Helper()
	vocab, err := os.ReadFile("testdata/vocab.txt")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Load(dir(map[string]string{"vocab.txt": string(vocab), "tokenizer_config.json": config}))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// FuzzEncode holds what everything behind the tokenizer relies on: tokens in
// order, inside the text, and apart from each other unless they are made of
// one character.
func FuzzEncode(f *testing.F) {
	toks := []Tokenizer{
		goldenVocab(f, `{}`),
		goldenVocab(f, `{"do_lower_case": false}`),
		goldenVocab(f, `{"strip_accents": false, "tokenize_chinese_chars": false}`),
		goldenVocab(f, `{"tokenizer_class": "CharTokenizer", "fold_width": true}`),
	}
	for _, s := range []string{"我爱北京天安门", "Café \xff\xfe [MASK]İ", "가\u302e나\u0344", "\U0001d15e\u0334", strings.Repeat("é", 101), "\x00\ufffd", "👨\u200d👩"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := utf8.RuneCountInString(text)
		for i, tok := range toks {
			prev := Token{}
			for _, k := range tok.Encode(text) {
				if k.ID < 0 || k.Start < 0 || k.End <= k.Start || k.End > n {
					t.Fatalf("%d: %+q (%d code points): token %v", i, text, n, k)
				}
				if k.Start < prev.Start || k.End < prev.End || k.Start < prev.End-1 {
					t.Fatalf("%d: %+q: %v after %v", i, text, k, prev)
				}
				prev = k
			}
		}
	})
}

// FuzzLoad reads hostile model directories.
func FuzzLoad(f *testing.F) {
	f.Add(smallVocab, goodJSON, `{"do_lower_case": false}`, "發发\n")
	f.Add(smallVocab, "", `{"added_tokens_decoder": {"14": {"content": "ab", "single_word": true, "lstrip": true}}}`, "")
	f.Add(smallVocab, "", `{"tokenizer_class": "CharTokenizer", "char_map": "map"}`, "發发\n")
	f.Fuzz(func(t *testing.T, vocab, jsonText, config, charMap string) {
		files := map[string]string{"vocab.txt": vocab, "map": charMap, "tokenizer_config.json": config}
		if jsonText != "" {
			files["tokenizer.json"] = jsonText
		}
		tok, err := Load(dir(files))
		if err != nil {
			return
		}
		tok.Special()
		for _, k := range tok.Encode("我 ab發Ab [CLS]é[X]\xff") {
			if k.ID < 0 || k.End <= k.Start {
				t.Fatalf("token %v", k)
			}
		}
	})
}
