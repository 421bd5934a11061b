package goengine

import (
	"context"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/caddy-infer/caddy-infer/inference/builtin"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// fixture is what train/charcnn.py's export wrote beside a model: logits
// that PyTorch computed from the committed, quantised weights.
type fixture struct {
	Cases []struct {
		Text   string      `json:"text"`
		IDs    []int32     `json:"ids"`
		Logits [][]float32 `json:"logits"`
	} `json:"cases"`
}

func readFixture(t *testing.T, model string) fixture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "builtin", "testdata", model+".logits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f fixture
	if err := json.Unmarshal(data, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Cases) == 0 {
		t.Fatal("the fixture is empty")
	}
	return f
}

// fixtures are the models that have one; ner-zh must.
func fixtures(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "builtin", "testdata", "*.logits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".logits.json"))
	}
	if !slices.Contains(names, "ner-zh") {
		t.Fatalf("no fixture of ner-zh among %v", names)
	}
	return names
}

func openBuiltin(t testing.TB, name string) engine.Engine {
	t.Helper()
	files, ok := builtin.Open(name)
	if !ok {
		t.Fatalf("no built-in model %q", name)
	}
	dir, err := modeldir.OpenFS("builtin/"+name, files)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(dir, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestBuiltinModelsComputeWhatPyTorchComputed(t *testing.T) {
	for _, name := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			f := readFixture(t, name)
			e := openBuiltin(t, name)
			batch := make([]engine.Sequence, len(f.Cases))
			for i, c := range f.Cases {
				batch[i].IDs = c.IDs
			}
			got, err := e.Run(context.Background(), batch)
			if err != nil {
				t.Fatal(err)
			}
			worst := 0.0
			for i, c := range f.Cases {
				if got[i].Rows != len(c.Logits) {
					t.Fatalf("%q: %d rows, PyTorch has %d", c.Text, got[i].Rows, len(c.Logits))
				}
				for r, want := range c.Logits {
					for k, v := range got[i].Row(r) {
						worst = max(worst, math.Abs(float64(v-want[k])))
					}
				}
			}
			if worst > 1e-4 {
				t.Errorf("logits differ from PyTorch's by up to %g", worst)
			}
		})
	}
}

func TestCharCNNBatchesDoNotChangeResults(t *testing.T) {
	e := openBuiltin(t, "ner-zh")
	f := readFixture(t, "ner-zh")
	var batch []engine.Sequence
	for _, c := range f.Cases {
		batch = append(batch, engine.Sequence{IDs: c.IDs})
	}
	batch = append(batch, engine.Sequence{IDs: []int32{1}})
	together, err := e.Run(context.Background(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range batch {
		alone, err := e.Run(context.Background(), []engine.Sequence{s})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range alone[0].Data {
			if math.Abs(float64(v-together[i].Data[k])) > 1e-5 {
				t.Fatalf("sequence %d: %g alone, %g in a batch", i, v, together[i].Data[k])
			}
		}
	}
}

// The values are train/charcnn.py's hash2 and hash3; a difference would make
// a trained model read the wrong rows without any error.
func TestNGramHashesAreThoseOfTraining(t *testing.T) {
	if got := hashBigram(17, 4242) % 32768; got != 8166 {
		t.Errorf("bigram hash %d, want 8166", got)
	}
	if got := hashTrigram(0, 7999, 1) % 16384; got != 13092 {
		t.Errorf("trigram hash %d, want 13092", got)
	}
}

func TestBrokenCharCNNIsRefusedWithTheReason(t *testing.T) {
	files, _ := builtin.Open("ner-zh")
	for _, c := range []struct{ name, old, new, want string }{
		{"no dilations", `"dilations"`, `"other"`, "number of dilations is 0"},
		{"wide kernel", `"kernel_size": 3`, `"kernel_size": 5`, "kernel_size is 5"},
		{"other activation", `"gelu"`, `"swish"`, `hidden_act "swish"`},
		{"wrong width", `"hidden_size": `, `"hidden_size": 9`, "has the shape"},
		{"no buckets", `"bigram_buckets": `, `"bigram_buckets": -`, "bigram_buckets is -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed := fstest.MapFS{}
			for _, name := range []string{"config.json", "model.safetensors", "vocab.txt", "char_map.txt", "tokenizer_config.json"} {
				data, err := fs.ReadFile(files, name)
				if err != nil {
					t.Fatal(err)
				}
				if name == "config.json" {
					if !strings.Contains(string(data), c.old) {
						t.Fatalf("config.json has no %s", c.old)
					}
					data = []byte(strings.Replace(string(data), c.old, c.new, 1))
				}
				changed[name] = &fstest.MapFile{Data: data}
			}
			dir, err := modeldir.OpenFS("test", changed)
			if err != nil {
				t.Fatal(err)
			}
			e, err := Open(dir, engine.Options{})
			if err == nil {
				_ = e.Close()
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func BenchmarkCharCNNSentence(b *testing.B) {
	e := openBuiltin(b, "ner-zh")
	ids := make([]int32, 30)
	for i := range ids {
		ids[i] = int32(2 + i*37)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Run(context.Background(), []engine.Sequence{{IDs: ids}}); err != nil {
			b.Fatal(err)
		}
	}
}
