package onnxruntime

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// bertShape is the size of a BERT with random weights.
type bertShape struct {
	layers, hidden, intermediate, heads, vocab int
}

var (
	smallBERT = bertShape{2, 48, 96, 4, 300}
	tinyBERT  = bertShape{2, 128, 512, 2, 21128}
	baseBERT  = bertShape{12, 768, 3072, 12, 21128}
)

// maxTokens is the max_position_embeddings of the models of the tests.
const maxTokens = 512

var testLabels = []string{"O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"}

// writeBERT makes a model directory with random weights, the same for the
// same arguments.
func writeBERT(t testing.TB, dir string, shape bertShape, architecture string) {
	t.Helper()
	w := randomWeights{rng: rand.New(rand.NewPCG(uint64(shape.layers), uint64(shape.hidden)))}
	h := shape.hidden
	w.add("bert.embeddings.word_embeddings.weight", 0.05, 0, shape.vocab, h)
	w.add("bert.embeddings.position_embeddings.weight", 0.05, 0, maxTokens, h)
	w.add("bert.embeddings.token_type_embeddings.weight", 0.05, 0, 2, h)
	w.norm("bert.embeddings.LayerNorm", h)
	for i := range shape.layers {
		layer := fmt.Sprintf("bert.encoder.layer.%d.", i)
		for _, part := range []string{"query", "key", "value"} {
			w.linear(layer+"attention.self."+part, h, h)
		}
		w.linear(layer+"attention.output.dense", h, h)
		w.norm(layer+"attention.output.LayerNorm", h)
		w.linear(layer+"intermediate.dense", shape.intermediate, h)
		w.linear(layer+"output.dense", h, shape.intermediate)
		w.norm(layer+"output.LayerNorm", h)
	}
	w.linear("bert.pooler.dense", h, h)
	w.linear("classifier", len(testLabels), h)

	f, err := os.Create(filepath.Join(dir, modeldir.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(f, w.tensors); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	labels := map[string]string{}
	for i, l := range testLabels {
		labels[fmt.Sprint(i)] = l
	}
	config, err := json.Marshal(map[string]any{
		"architectures": []string{architecture}, "model_type": "bert", "hidden_act": "gelu",
		"num_hidden_layers": shape.layers, "hidden_size": h, "intermediate_size": shape.intermediate,
		"num_attention_heads": shape.heads, "vocab_size": shape.vocab, "type_vocab_size": 2,
		"max_position_embeddings": maxTokens, "layer_norm_eps": 1e-12, "id2label": labels,
	})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, modeldir.ConfigFile), string(config))
}

type randomWeights struct {
	rng     *rand.Rand
	tensors []safetensors.Tensor
}

func (w *randomWeights) add(name string, spread, mean float64, shape ...int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	values := make([]float32, n)
	for i := range values {
		// Twelve uniforms make a normal; two are near enough and quick.
		values[i] = float32(mean + spread*2.4*(w.rng.Float64()+w.rng.Float64()-1))
	}
	var data bytes.Buffer
	_ = binary.Write(&data, binary.LittleEndian, values) // a Buffer takes all
	w.tensors = append(w.tensors, safetensors.Tensor{Name: name, DType: "F32", Shape: shape, Data: data.Bytes()})
}

func (w *randomWeights) linear(name string, out, in int) {
	w.add(name+".weight", 0.05, 0, out, in)
	w.add(name+".bias", 0.02, 0, out)
}

func (w *randomWeights) norm(name string, n int) {
	w.add(name+".weight", 0.1, 1, n)
	w.add(name+".bias", 0.05, 0, n)
}

// export runs the repository's own exporter on dir.
func export(t testing.TB, dir string, args ...string) {
	t.Helper()
	script, err := filepath.Abs("../../examples/export/onnx_bert.py")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "python3", "-c", "import numpy, onnx, onnxruntime").CombinedOutput(); err != nil {
		t.Skipf("python3 with numpy, onnx and onnxruntime (pip install them) is needed to make the graph: %v %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "python3", append([]string{script, dir}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("exporting: %v\n%s", err, out)
	}
}
