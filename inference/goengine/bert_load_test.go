package goengine

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// broken copies the fixture, changes it, and opens it.
func broken(t *testing.T, change func(config map[string]any, tensors map[string]safetensors.Tensor)) error {
	t.Helper()
	const from = "testdata/tiny-token"
	to := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Open(filepath.Join(from, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tensors := map[string]safetensors.Tensor{}
	for _, name := range file.Names() {
		tensors[name], _ = file.Tensor(name)
	}
	change(config, tensors)
	raw, err = json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.Create(filepath.Join(to, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var list []safetensors.Tensor
	for name, tensor := range tensors {
		tensor.Name = name
		list = append(list, tensor)
	}
	if err := safetensors.Write(w, list); err != nil {
		t.Fatal(err)
	}
	dir, err := modeldir.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Open("go", dir, engine.Options{})
	if err != nil {
		return err
	}
	defer e.Close()
	want := readExpected(t, from)
	got, err := e.Run(t.Context(), want.batch())
	if err != nil {
		return err
	}
	if d := difference(t, got, want); !(d <= tolerance) {
		t.Errorf("largest difference %g", d)
	}
	return nil
}

type (
	config  = map[string]any
	tensors = map[string]safetensors.Tensor
)

func TestModelsThatDoNotFitTheirConfigAreRefusedWithTheTensor(t *testing.T) {
	for name, tt := range map[string]struct {
		want   string
		change func(config, tensors)
	}{
		"missing": {
			`"bert.encoder.layer.1.output.dense.bias" is missing`,
			func(_ config, m tensors) { delete(m, "bert.encoder.layer.1.output.dense.bias") },
		},
		"wider": {
			`"bert.embeddings.word_embeddings.weight" has the shape [100 32], expected [100 64]`,
			func(c config, _ tensors) { c["hidden_size"] = 64 },
		},
		"fewer labels": {
			`"classifier.weight" has the shape [13 32], expected [2 32]`,
			func(c config, _ tensors) { c["id2label"] = config{"0": "O", "1": "B-X"} },
		},
		"not a BERT": {
			"not the weights of a BERT",
			func(_ config, m tensors) { delete(m, "bert.embeddings.word_embeddings.weight") },
		},
		"integers": {"cannot read I32", func(_ config, m tensors) {
			x := m["classifier.bias"]
			x.DType = "I32"
			m["classifier.bias"] = x
		}},
		"heads":        {"not a multiple", func(c config, _ tensors) { c["num_attention_heads"] = 5 }},
		"no layers":    {"num_hidden_layers is 0", func(c config, _ tensors) { delete(c, "num_hidden_layers") }},
		"huge":         {"hidden_size is 4294967296", func(c config, _ tensors) { c["hidden_size"] = 4294967296 }},
		"fraction":     {"parsing config.json", func(c config, _ tensors) { c["hidden_size"] = 0.5 }},
		"epsilon":      {"layer_norm_eps is -1", func(c config, _ tensors) { c["layer_norm_eps"] = -1 }},
		"activation":   {`hidden_act "swish"`, func(c config, _ tensors) { c["hidden_act"] = "swish" }},
		"positions":    {`"relative_key"`, func(c config, _ tensors) { c["position_embedding_type"] = "relative_key" }},
		"other family": {`model_type "t5" (it has bert`, func(c config, _ tensors) { c["model_type"] = "t5" }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := broken(t, tt.change); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestOtherSpellingsOfTensorNamesAreRead(t *testing.T) {
	rename := func(m tensors, f func(string) string) {
		for name, x := range maps.Clone(m) {
			delete(m, name)
			m[f(name)] = x
		}
	}
	for name, from := range map[string]func(string) string{
		"RaNER": func(s string) string {
			s = strings.Replace(s, "bert.", "encoder.", 1)
			return strings.Replace(s, "classifier.", "linear.", 1)
		},
		"RaNER saved by a trainer": func(s string) string {
			s = strings.Replace(s, "bert.", "encoder.", 1)
			return "model." + strings.Replace(s, "classifier.", "linear.", 1)
		},
		"AdaSeq": func(s string) string {
			s = strings.Replace(s, "bert.", "embedder.transformer_model.", 1)
			return strings.Replace(s, "classifier.", "linear.", 1)
		},
		"bare encoder": func(s string) string { return strings.TrimPrefix(s, "bert.") },
		"TensorFlow": func(s string) string {
			s = strings.Replace(s, "LayerNorm.weight", "LayerNorm.gamma", 1)
			return strings.Replace(s, "LayerNorm.bias", "LayerNorm.beta", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := broken(t, func(_ config, m tensors) { rename(m, from) }); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWeightsCutOffWhileInUseFailTheRequestOnly(t *testing.T) {
	want := readExpected(t, "testdata/tiny-token")
	path := t.TempDir()
	if err := os.CopyFS(path, os.DirFS("testdata/tiny-token")); err != nil {
		t.Fatal(err)
	}
	_, e := open(t, path, 1)
	if err := os.Truncate(filepath.Join(path, "model.safetensors"), 100); err != nil {
		t.Skipf("this system does not truncate mapped files: %v", err)
	}
	if _, err := e.Run(t.Context(), want.batch()); err == nil || !strings.Contains(err.Error(), "changed while in use") {
		t.Errorf("got %v", err)
	}
}

// FuzzBERTConfig holds a config.json of any content against real weights:
// it is refused, or the model runs.
func FuzzBERTConfig(f *testing.F) {
	seed, err := os.ReadFile("testdata/tiny-token/config.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"architectures":["BertForTokenClassification"],"model_type":"bert","num_labels":13,"vocab_size":100,` +
		`"hidden_size":32,"num_hidden_layers":1,"num_attention_heads":1,"intermediate_size":64,` +
		`"max_position_embeddings":48,"type_vocab_size":2,"hidden_act":"relu","layer_norm_eps":1e30}`))
	weights, err := os.ReadFile("testdata/tiny-token/model.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		dir, err := modeldir.OpenFS("fuzz", fstest.MapFS{
			modeldir.ConfigFile: {Data: config}, modeldir.WeightsFile: {Data: weights},
		})
		if err != nil {
			return
		}
		e, err := engine.Open("go", dir, engine.Options{})
		if err != nil {
			return
		}
		defer e.Close()
		got, err := e.Run(t.Context(), []engine.Sequence{{IDs: []int32{2, 3}}})
		if err != nil {
			return
		}
		if len(got) != 1 || got[0].Cols != len(dir.Config.Labels) {
			t.Errorf("got %+v", got)
		}
	})
}
