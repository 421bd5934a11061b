package builtin

import (
	"encoding/json"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/tokenizer"
)

func TestEveryModelIsWholeAndSmall(t *testing.T) {
	const limit = 4 << 20
	names := Names()
	if !slices.Contains(names, "ner-zh") {
		t.Fatalf("ner-zh is not among %v", names)
	}
	for _, name := range names {
		files, ok := Open(name)
		if !ok {
			t.Fatalf("%s is listed but does not open", name)
		}
		for _, file := range []string{"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "char_map.txt", "LICENSE"} {
			if _, err := fs.Stat(files, file); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		var total int64
		err := fs.WalkDir(files, ".", func(_ string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				total += info.Size()
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if total > limit {
			t.Errorf("%s has %d bytes, more than %d", name, total, limit)
		}
	}
}

func TestOnlyModelsOpen(t *testing.T) {
	for _, name := range []string{"", ".", "..", "train", "ner-zh/", "../builtin/ner-zh", "/ner-zh", "NER-ZH", "ner-zh/config.json"} {
		if _, ok := Open(name); ok {
			t.Errorf("%q opened", name)
		}
	}
}

// A difference between this tokenizer and training's would only show as a
// few points of accuracy less.
func TestTokenizerIsThatOfTraining(t *testing.T) {
	data, err := os.ReadFile("testdata/ner-zh.logits.json")
	if err != nil {
		t.Fatal(err)
	}
	var fixture struct {
		Cases []struct {
			Text   string  `json:"text"`
			IDs    []int32 `json:"ids"`
			Starts []int   `json:"starts"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(data, &fixture); err != nil {
		t.Fatal(err)
	}
	files, _ := Open("ner-zh")
	tok, err := tokenizer.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(fixture.Cases) == 0 {
		t.Fatal("the fixture is empty")
	}
	for _, c := range fixture.Cases {
		var ids []int32
		var starts []int
		for _, token := range tok.Encode(c.Text) {
			ids, starts = append(ids, token.ID), append(starts, token.Start)
		}
		if !slices.Equal(ids, c.IDs) || !slices.Equal(starts, c.Starts) {
			t.Errorf("%q: ids %v at %v, training has %v at %v", c.Text, ids, starts, c.IDs, c.Starts)
		}
	}
}
