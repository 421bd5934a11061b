package tokenizer

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

const smallVocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n我\n爱\ncafe\nCafe\n##s\né\n[X]\na\n##b\n"

func dir(files map[string]string) fs.FS {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: []byte(content)}
	}
	return m
}

func load(t *testing.T, files map[string]string) Tokenizer {
	t.Helper()
	tok, err := Load(dir(files))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestVocabAloneIsAnUncasedBERT(t *testing.T) {
	tok := load(t, map[string]string{"vocab.txt": smallVocab})
	want := []Token{{7, 0, 4}, {9, 4, 5}, {5, 5, 6}, {6, 6, 7}, {1, 8, 10}, {4, 10, 16}}
	if got := tok.Encode("CAFÉs我爱 zz[MASK]"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if cls, sep, ok := tok.Special(); cls != 2 || sep != 3 || !ok {
		t.Errorf("special tokens: %d %d %v", cls, sep, ok)
	}
}

func TestConfigurationIsFollowed(t *testing.T) {
	for _, c := range []struct {
		name, config, text string
		want               []Token
	}{
		{"cased", `{"do_lower_case": false}`, "Cafes", []Token{{8, 0, 4}, {9, 4, 5}}},
		{"accents kept", `{"strip_accents": false}`, "É", []Token{{10, 0, 1}}},
		{"accents stripped although cased", `{"do_lower_case": false, "strip_accents": true}`, "Cafés", []Token{{8, 0, 4}, {9, 4, 5}}},
		{"ideographs joined", `{"tokenize_chinese_chars": false}`, "我爱", []Token{{1, 0, 2}}},
		{"never split", `{"never_split": ["[X]", "absent"]}`, "a[X]", []Token{{12, 0, 1}, {11, 1, 4}}},
		{"additional special token", `{"additional_special_tokens": ["[X]"]}`, "[X]", []Token{{11, 0, 3}}},
		{"special token as object", `{"unk_token": {"content": "a"}}`, "?", []Token{{12, 0, 1}}},
		{
			"added token beyond the vocabulary", `{"added_tokens_decoder": {"14": {"content": "<e>", "lstrip": true, "rstrip": true}}}`,
			"a <e> a",
			[]Token{{12, 0, 1}, {14, 1, 6}, {12, 6, 7}},
		},
		{
			"whole words only", `{"added_tokens_decoder": {"14": {"content": "ab", "single_word": true}}}`,
			"ab cab",
			[]Token{{14, 0, 2}, {1, 3, 6}},
		},
		{"BERT class named", `{"tokenizer_class": "BertTokenizerFast"}`, "ab", []Token{{12, 0, 1}, {13, 1, 2}}},
	} {
		tok := load(t, map[string]string{"vocab.txt": smallVocab, "tokenizer_config.json": c.config})
		if got := tok.Encode(c.text); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q gives %v, want %v", c.name, c.text, got, c.want)
		}
	}
}

const goodJSON = `{"added_tokens": [{"id": 2, "content": "[CLS]"}],
	"normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false},
	"pre_tokenizer": {"type": "BertPreTokenizer"},
	"model": {"type": "WordPiece", "unk_token": "[U]", "continuing_subword_prefix": "@@", "max_input_chars_per_word": 3,
		"vocab": {"[U]": 0, "A": 1, "[CLS]": 2, "@@b": 3, "[SEP]": 4}}}`

func TestTokenizerJSONIsFollowed(t *testing.T) {
	tok := load(t, map[string]string{"tokenizer.json": goodJSON})
	want := []Token{{1, 0, 1}, {3, 1, 2}, {0, 3, 4}, {0, 5, 9}, {2, 10, 15}}
	if got := tok.Encode("Ab a Abbb [CLS]"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	lower := load(t, map[string]string{"tokenizer.json": goodJSON, "tokenizer_config.json": `{"do_lower_case": true}`})
	if got := lower.Encode("A"); !reflect.DeepEqual(got, []Token{{0, 0, 1}}) {
		t.Errorf("tokenizer_config.json does not win over tokenizer.json: %v", got)
	}
}

func TestUnsupportedFilesAreNamed(t *testing.T) {
	with := func(old, new string) map[string]string {
		return map[string]string{"tokenizer.json": strings.Replace(goodJSON, old, new, 1)}
	}
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{nil, "neither vocab.txt nor tokenizer.json"},
		{with(`"WordPiece"`, `"BPE"`), `the model "BPE" is not supported, only WordPiece`},
		{with(`"BertNormalizer"`, `"NFKC"`), `the normalizer "NFKC"`},
		{with(`"BertPreTokenizer"`, `"Whitespace"`), `the pre_tokenizer "Whitespace"`},
		{with(`"[U]": 0`, `"[V]": 0`), `unknown token "[U]" is not in the vocabulary`},
		{with(`"A": 1`, `"A": -1`), "ids begin at 0"},
		{with(`"content": "[CLS]"`, `"content": "[CLS]", "normalized": true`), `"normalized": true is not supported`},
		{map[string]string{"tokenizer.json": "{"}, "reading tokenizer.json"},
		{map[string]string{"vocab.txt": "a\n"}, `unknown token "[UNK]"`},
		{map[string]string{"vocab.txt": "\xff\n"}, "not UTF-8"},
		{map[string]string{"vocab.txt": "a", "tokenizer_config.json": "[]"}, "reading tokenizer_config.json"},
		{map[string]string{"vocab.txt": "a", "tokenizer_config.json": `{"tokenizer_class": "XLMRobertaTokenizer"}`}, `"XLMRobertaTokenizer" is not supported`},
		{map[string]string{"vocab.txt": "[UNK]", "tokenizer_config.json": `{"tokenizer_class": "CharTokenizer", "char_map": "m"}`}, "reading m"},
		{map[string]string{"vocab.txt": "[UNK]", "m": "發发\n三字呢\n", "tokenizer_config.json": `{"tokenizer_class": "CharTokenizer", "char_map": "m"}`}, "line 2 has 3 code points"},
		{map[string]string{"vocab.txt": "a", "tokenizer_config.json": `{"tokenizer_class": "CharTokenizer"}`}, `unknown token "[UNK]"`},
	} {
		_, err := Load(dir(c.files))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want one with %q", err, c.want)
		}
	}
}

func TestCharTokenizerFoldsBeforeLookingUp(t *testing.T) {
	files := map[string]string{
		"vocab.txt": "[PAD]\n[UNK]\na\n发\n，\n😀\n,\nガ\nｶ\n", "map": "發发\n髮发\n",
		"tokenizer_config.json": `{"tokenizer_class": "CharTokenizer", "do_lower_case": true, "fold_width": true, "char_map": "map"}`,
	}
	tok := load(t, files)
	want := []Token{{2, 0, 1}, {2, 1, 2}, {3, 3, 4}, {3, 5, 6}, {6, 6, 7}, {5, 7, 8}, {1, 9, 10}, {1, 10, 11}}
	if got := tok.Encode("AＡ 發\u200b髮，😀\x00龘𠮷"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, _, ok := tok.Special(); ok {
		t.Error("a CharTokenizer frames its sequences")
	}
	files["tokenizer_config.json"] = `{"tokenizer_class": "CharTokenizer", "do_lower_case": false}`
	plain := load(t, files)
	if got := plain.Encode("A發，"); !reflect.DeepEqual(got, []Token{{1, 0, 1}, {1, 1, 2}, {4, 2, 3}}) {
		t.Errorf("without folding: %v", got)
	}
}
