package tokenizer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// goldenCase is a line that testdata/golden.py writes.
type goldenCase struct {
	Config string `json:"c"`
	Text   string `json:"t"`
	Tokens []int  `json:"k"` // id, start, end, …
}

// normalizers are CONFIGS of testdata/golden.py.
var normalizers = map[string]normalizer{
	"uncased":             {cleanText: true, splitIdeographs: true, stripAccents: true, lowercase: true},
	"cased":               {cleanText: true, splitIdeographs: true},
	"lower-keep-accents":  {cleanText: true, splitIdeographs: true, lowercase: true},
	"cased-strip-accents": {cleanText: true, splitIdeographs: true, stripAccents: true},
	"no-chinese":          {cleanText: true, stripAccents: true, lowercase: true},
	"raw":                 {splitIdeographs: true, stripAccents: true, lowercase: true},
	"raw-keep-accents":    {},
}

func TestEqualsHuggingFaceOnTheGoldenFile(t *testing.T) {
	vocab, err := readVocab(os.DirFS("testdata"))
	if err != nil {
		t.Fatal(err)
	}
	toks := map[string]Tokenizer{}
	for name, n := range normalizers {
		settings := wordPieceSettings{
			norm: n, accents: &n.stripAccents, unk: "[UNK]", prefix: "##",
			maxChars: defaultMaxChars, defaultSpecials: true,
		}
		if toks[name], err = newWordPiece(vocabFile, vocab, settings, config{}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if n := compare(t, data, toks); n < 600 {
		t.Fatalf("the golden file has only %d cases", n)
	}
}

// TestEqualsHuggingFaceOnFreshRandomTexts asks the real library about strings
// that nobody has seen before and about every code point, where python3 (or
// $PYTHON) has it.
func TestEqualsHuggingFaceOnFreshRandomTexts(t *testing.T) {
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import tokenizers").Run(); err != nil {
		t.Skipf("needs %s with PyPI tokenizers (or PYTHON naming one that has it): %v", python, err)
	}
	count, seed := 20000, time.Now().UnixNano()
	if s := os.Getenv("TOKENIZER_SEED"); s != "" {
		seed, _ = strconv.ParseInt(s, 10, 64)
	}
	if testing.Short() {
		count = 2000
	}
	dir := t.TempDir()
	out, err := exec.Command(python, "testdata/golden.py", "--fresh",
		strconv.Itoa(count), strconv.FormatInt(seed, 10), dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s, TOKENIZER_SEED=%d", strings.TrimSpace(string(out)), seed)
	toks := map[string]Tokenizer{}
	for name := range normalizers {
		if toks[name], err = Load(os.DirFS(filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "fresh.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := compare(t, data, toks); n < count {
		t.Fatalf("compared only %d of %d texts", n, count)
	}
}

func compare(t *testing.T, data []byte, toks map[string]Tokenizer) (cases int) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	bad := 0
	for lines.Scan() {
		var c goldenCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases++
		var got []int
		for _, tok := range toks[c.Config].Encode(c.Text) {
			got = append(got, int(tok.ID), tok.Start, tok.End)
		}
		if slices.Equal(got, c.Tokens) {
			continue
		}
		if bad++; bad <= 20 {
			t.Errorf("%s %+q:\n got %v\nwant %v", c.Config, c.Text, got, c.Tokens)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d texts, %d differ", cases, bad)
	return cases
}
