package builtin

import (
	"io/fs"
	"slices"
	"testing"
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
