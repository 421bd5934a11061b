//go:build cgo && unix

package onnxruntime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// The fixtures hold what Hugging Face's own network computed with PyTorch;
// goengine/testdata/reference.py wrote them.
func TestTheExportedGraphSaysWhatPyTorchSaid(t *testing.T) {
	for _, fixture := range []string{"tiny-token", "tiny-sequence"} {
		t.Run(fixture, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("../goengine/testdata", fixture))); err != nil {
				t.Fatal(err)
			}
			export(t, dir)
			e := openEngine(t, "onnxruntime", dir, engine.Options{})
			batch, want := expected(t, dir)
			if d := maxDifference(t, run(t, e, batch), want); d > 1e-4 {
				t.Errorf("differs by %g", d)
			}
		})
	}
}

// expected reads expected.json: token ids, and the logits of each.
func expected(t *testing.T, dir string) (batch []engine.Sequence, logits []engine.Logits) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			IDs    []int32     `json:"ids"`
			Logits [][]float32 `json:"logits"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) == 0 {
		t.Fatal("expected.json has no cases")
	}
	for _, c := range file.Cases {
		batch = append(batch, engine.Sequence{IDs: c.IDs})
		l := engine.Logits{Rows: len(c.Logits), Cols: len(c.Logits[0])}
		for _, row := range c.Logits {
			l.Data = append(l.Data, row...)
		}
		logits = append(logits, l)
	}
	return batch, logits
}
