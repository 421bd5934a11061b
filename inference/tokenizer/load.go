package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"
)

// The files of a model directory that describe its tokenizer.
const (
	vocabFile  = "vocab.txt"
	jsonFile   = "tokenizer.json"
	configFile = "tokenizer_config.json"
)

// maxFile bounds each of them; the largest multilingual tokenizer.json is
// under 20 MB.
const maxFile = 64 << 20

// defaultMaxChars is Hugging Face's limit on the length of a word.
const defaultMaxChars = 100

// Load reads the tokenizer of a model directory: vocab.txt or a tokenizer.json
// with a WordPiece model, and tokenizer_config.json where there is one. What
// the configuration says explicitly wins over tokenizer.json, as in
// Hugging Face's BertTokenizerFast. The tokenizer_class CharTokenizer is the
// one of the built-in models.
func Load(fsys fs.FS) (Tokenizer, error) {
	cfg, err := readConfig(fsys)
	if err != nil {
		return nil, err
	}
	if cfg.Class == "CharTokenizer" {
		return loadChars(fsys, cfg)
	}
	data, err := readFile(fsys, jsonFile)
	switch {
	case err == nil:
		return fromJSON(data, cfg)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if !slices.Contains(wordPieceClasses, strings.TrimSuffix(cfg.Class, "Fast")) {
		return nil, fmt.Errorf("reading %s: tokenizer_class %q is not supported without a %s; supported are %s and CharTokenizer",
			configFile, cfg.Class, jsonFile, strings.Join(wordPieceClasses[1:], ", "))
	}
	vocab, err := readVocab(fsys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the tokenizer: the directory has neither %s nor %s; copy one from the original model", vocabFile, jsonFile)
	}
	if err != nil {
		return nil, err
	}
	return newWordPiece(vocabFile, vocab, wordPieceSettings{
		norm: normalizer{cleanText: true, splitIdeographs: true, lowercase: true},
		unk:  "[UNK]", prefix: "##", maxChars: defaultMaxChars, defaultSpecials: true,
	}, cfg)
}

// wordPieceClasses are Hugging Face's names of plain BERT WordPiece.
var wordPieceClasses = []string{"", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer", "ErnieTokenizer", "NezhaTokenizer", "MegatronBertTokenizer"}

// config is tokenizer_config.json.
type config struct {
	Class        string           `json:"tokenizer_class"`
	Lower        *bool            `json:"do_lower_case"`
	StripAccents *bool            `json:"strip_accents"`
	ChineseChars *bool            `json:"tokenize_chinese_chars"`
	DoBasic      *bool            `json:"do_basic_tokenize"`
	NeverSplit   []string         `json:"never_split"`
	Unk          tokenName        `json:"unk_token"`
	Sep          tokenName        `json:"sep_token"`
	Pad          tokenName        `json:"pad_token"`
	Cls          tokenName        `json:"cls_token"`
	Mask         tokenName        `json:"mask_token"`
	Additional   []tokenName      `json:"additional_special_tokens"`
	AddedTokens  map[string]added `json:"added_tokens_decoder"`
	FoldWidth    bool             `json:"fold_width"`
	CharMap      string           `json:"char_map"`
}

// tokenName is a token written as a string or as an object with its content.
type tokenName string

func (t *tokenName) UnmarshalJSON(data []byte) error {
	var name *string
	if json.Unmarshal(data, &name) == nil {
		if name != nil {
			*t = tokenName(*name)
		}
		return nil
	}
	var obj struct {
		Content string `json:"content"`
	}
	if err := json.Unmarshal(data, &obj); err != nil {
		return err
	}
	*t = tokenName(obj.Content)
	return nil
}

func (t tokenName) or(fallback string) string {
	if t == "" {
		return fallback
	}
	return string(t)
}

func readConfig(fsys fs.FS) (config, error) {
	var cfg config
	data, err := readFile(fsys, configFile)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return cfg, err
	}
	if err := json.Unmarshal(data, &cfg); err != nil {
		return cfg, fmt.Errorf("reading %s: %w", configFile, err)
	}
	if cfg.DoBasic != nil && !*cfg.DoBasic {
		return cfg, fmt.Errorf("reading %s: do_basic_tokenize false is not supported", configFile)
	}
	return cfg, nil
}

func readFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("reading %s: it is larger than the %d MB a tokenizer file may have", name, maxFile>>20)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("reading %s: it is not UTF-8; convert it with iconv", name)
	}
	return data, nil
}

// readVocab reads vocab.txt: the id of a token is the number of its line. Of
// a token that is there twice, the last line counts, as in Hugging Face.
func readVocab(fsys fs.FS) (map[string]int32, error) {
	data, err := readFile(fsys, vocabFile)
	if err != nil {
		return nil, err
	}
	text := strings.TrimSuffix(string(data), "\n")
	vocab := make(map[string]int32, strings.Count(text, "\n")+1)
	var id int32
	for line := range strings.SplitSeq(text, "\n") {
		vocab[strings.TrimSuffix(line, "\r")] = id
		id++
	}
	return vocab, nil
}

// wordPieceSettings are what vocab.txt leaves open and tokenizer.json says.
type wordPieceSettings struct {
	norm     normalizer
	accents  *bool // nil: as lower-casing
	unk      string
	prefix   string
	maxChars int
	added    []added
	// defaultSpecials looks for BERT's special tokens in texts; tokenizer.json
	// lists its own.
	defaultSpecials bool
}

func newWordPiece(file string, vocab map[string]int32, s wordPieceSettings, cfg config) (Tokenizer, error) {
	if cfg.Lower != nil {
		s.norm.lowercase = *cfg.Lower
	}
	if cfg.ChineseChars != nil {
		s.norm.splitIdeographs = *cfg.ChineseChars
	}
	if cfg.StripAccents != nil {
		s.accents = cfg.StripAccents
	}
	s.norm.stripAccents = s.norm.lowercase
	if s.accents != nil {
		s.norm.stripAccents = *s.accents
	}
	if len(vocab) == 0 {
		return nil, fmt.Errorf("reading %s: the vocabulary is empty", file)
	}
	for token, id := range vocab {
		if id < 0 {
			return nil, fmt.Errorf("reading %s: the token %q has the id %d; ids begin at 0", file, token, id)
		}
	}
	list, err := addedTokens(vocab, s, cfg)
	if err != nil {
		return nil, err
	}
	if s.defaultSpecials {
		s.unk = cfg.Unk.or(s.unk)
	}
	unk, ok := vocab[s.unk]
	if !ok {
		return nil, fmt.Errorf("reading %s: the unknown token %q is not in the vocabulary; set unk_token in %s", file, s.unk, configFile)
	}
	bmp() // now rather than in the first request
	w := &wordPiece{
		norm: s.norm, vocab: newTrie(vocab, s.prefix), unk: unk, maxChars: s.maxChars, special: newSpecials(list),
	}
	find := func(name string) (int32, bool) {
		if id, ok := vocab[name]; ok {
			return id, true
		}
		i := slices.IndexFunc(list, func(t special) bool { return t.content == name })
		if i < 0 {
			return 0, false
		}
		return list[i].id, true
	}
	cls, hasCls := find(cfg.Cls.or("[CLS]"))
	sep, hasSep := find(cfg.Sep.or("[SEP]"))
	if hasCls && hasSep {
		w.cls, w.sep, w.framed = cls, sep, true
	}
	return w, nil
}
