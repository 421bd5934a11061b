package goengine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// python returns a Python that has PyTorch and Hugging Face's transformers.
func python(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("PYTHON"), "python3", "/usr/bin/python3"} {
		if path == "" {
			continue
		}
		if exec.Command(path, "-c", "import torch, transformers, safetensors").Run() == nil {
			return path
		}
	}
	t.Skip("needs a Python with torch (>= 1.13), transformers and safetensors: name it in PYTHON " +
		"(Debian's python3-torch goes with transformers 4.40.2)")
	return ""
}

func runScript(t *testing.T, python string, args ...string) {
	t.Helper()
	if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

const converter = "../../examples/export/convert.py"

// A model of random weights is built by PyTorch in the layout that the hub
// has it in, converted as a user would, and run by both.
func TestConvertedModelsComputeWhatPyTorchDoes(t *testing.T) {
	python := python(t)
	for _, tt := range []struct{ kind, size string }{
		{"token", "small"}, {"structbert", "small"}, {"raner", "small"}, {"raner", "base"},
	} {
		t.Run(tt.kind+" "+tt.size, func(t *testing.T) {
			if tt.size == "base" && testing.Short() {
				t.Skip("writes 1 GB: not with -short")
			}
			source := t.TempDir()
			runScript(t, python, "testdata/reference.py", tt.kind, tt.size, source)
			want := readExpected(t, source)
			paths := []string{source}
			if tt.kind != "token" { // which is in the right layout as it is
				out := filepath.Join(t.TempDir(), "model")
				runScript(t, python, converter, source, out)
				paths = []string{out}
				if tt.size != "base" {
					runScript(t, python, converter, source)
					paths = append(paths, source) // ModelScope's layout with model.safetensors added
				}
			}
			for _, path := range paths {
				compare(t, path, want)
			}
		})
	}
}

func compare(t *testing.T, path string, want expected) {
	t.Helper()
	dir, e := open(t, path, 2)
	if !slices.Equal(dir.Config.Labels, want.Labels) {
		t.Errorf("labels %v, want %v", dir.Config.Labels, want.Labels)
	}
	compareTokens(t, dir, want)
	got, err := e.Run(t.Context(), want.batch())
	if err != nil {
		t.Fatal(err)
	}
	d := difference(t, got, want)
	t.Logf("%s: largest difference to torch %s, transformers %s: %.2g",
		dir.Config.Architecture, want.Torch, want.Transformers, d)
	if !(d <= tolerance) {
		t.Errorf("largest difference %g, want at most %g", d, tolerance)
	}
	compareEntities(t, dir, got, want)
}

// compareEntities decodes with the model's CRF what PyTorch's logits were
// decoded from.
func compareEntities(t *testing.T, dir *modeldir.Dir, logits []engine.Logits, want expected) {
	t.Helper()
	crf, err := dir.CRF()
	if err != nil {
		t.Fatal(err)
	}
	if (crf != nil) != (want.Cases[0].Entities != nil) {
		t.Fatalf("CRF found: %v", crf != nil)
	}
	if crf == nil {
		return
	}
	tagger, err := decode.NewTagger(dir.Config.Labels, (*decode.CRF)(crf))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for i, c := range want.Cases {
		l := logits[i]
		inner := engine.Logits{Rows: l.Rows - 2, Cols: l.Cols, Data: l.Data[l.Cols : len(l.Data)-l.Cols]}
		var got []string
		for _, s := range tagger.Decode(inner) {
			got = append(got, fmt.Sprint([]any{s.Type, s.Start, s.End}))
		}
		var expected []string
		for _, entity := range c.Entities {
			expected = append(expected, fmt.Sprint(entity))
		}
		if !slices.Equal(got, expected) {
			t.Errorf("%s\ngot  %v\nwant %v", c.Text, got, expected)
		}
		count += len(got)
	}
	if count == 0 {
		t.Error("no entities at all: the comparison shows nothing")
	}
}
