//go:build cgo && unix

package onnxruntime

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	_ "github.com/caddy-infer/caddy-infer/inference/goengine"
)

// Both engines round the same weights to 8 bits, each in its way: what they
// lose by it must be alike, and little.
func TestBothEnginesKeepTheLogitsInINT8(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	batch := randomBatch(rand.New(rand.NewPCG(5, 5)), smallBERT.vocab, 32, 7, 64, 1)
	exact := run(t, openEngine(t, "onnxruntime", dir, engine.Options{Precision: engine.FP32}), batch)
	if d := maxDifference(t, run(t, openEngine(t, "go", dir, engine.Options{Precision: engine.FP32}), batch), exact); d > 1e-4 {
		t.Errorf("fp32 differs by %g", d)
	}
	for _, name := range []string{"go", "onnxruntime"} {
		got := run(t, openEngine(t, name, dir, engine.Options{Precision: engine.INT8}), batch)
		var ab, aa, bb float64
		for i := range exact {
			for j, v := range exact[i].Data {
				w := got[i].Data[j]
				ab, aa, bb = ab+float64(v)*float64(w), aa+float64(v)*float64(v), bb+float64(w)*float64(w)
			}
		}
		cosine := ab / math.Sqrt(aa*bb)
		t.Logf("%s: cosine of the logits in 8 bits and in fp32 %.6f", name, cosine)
		if cosine < 0.999 {
			t.Errorf("%s: cosine %v", name, cosine)
		}
	}
}
