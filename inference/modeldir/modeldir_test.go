package modeldir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// files builds a directory in memory from names and contents.
func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return fsys
}

func TestConfigurationsOfBothHubsAreUnderstood(t *testing.T) {
	const labels = `"id2label": {"1": "B-PER", "0": "O", "2": "I-PER"}`
	tests := []struct {
		name string
		fsys fstest.MapFS
		want Config
	}{
		{
			"Hugging Face tokens", files("config.json",
				`{"architectures": ["BertForTokenClassification"], "model_type": "bert", "max_position_embeddings": 512, `+labels+`}`),
			Config{
				Architecture: "BertForTokenClassification", ModelType: "bert", Task: TokenClassification,
				Labels: []string{"O", "B-PER", "I-PER"}, MaxTokens: 512,
			},
		},
		{
			"Hugging Face texts, several labels each", files("config.json",
				`{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "problem_type": "multi_label_classification", "label2id": {"b": 1, "a": 0}}`),
			Config{
				Architecture: "BertForSequenceClassification", ModelType: "bert", Task: SequenceClassification,
				Labels: []string{"a", "b"}, MultiLabel: true,
			},
		},
		{
			"labels without names", files("config.json",
				`{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "num_labels": 2}`),
			Config{
				Architecture: "BertForSequenceClassification", ModelType: "bert", Task: SequenceClassification,
				Labels: []string{"LABEL_0", "LABEL_1"},
			},
		},
		{
			"labels as a list", files("config.json",
				`{"architectures": ["CharCNNForTokenClassification"], "model_type": "charcnn", "id2label": ["O", "B-X"]}`),
			Config{
				Architecture: "CharCNNForTokenClassification", ModelType: "charcnn", Task: TokenClassification,
				Labels: []string{"O", "B-X"},
			},
		},
		{
			"columns that share a name", files("config.json",
				`{"architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": {"0": "x", "1": "x"}, "label2id": {"x": 1}}`),
			Config{
				Architecture: "BertForSequenceClassification", ModelType: "bert", Task: SequenceClassification,
				Labels: []string{"x", "x"},
			},
		},
		{
			"RaNER", files("config.json", `{"model_type": "bert", "architectures": ["BertForMaskedLM"], `+labels+`}`,
				"configuration.json", `{"framework": "pytorch", "task": "named-entity-recognition", "preprocessor": {"type": "sequence-labeling-tokenizer"}, "model": {"type": "transformer-crf"}}`),
			Config{
				Architecture: "TransformerCRFForNamedEntityRecognition", ModelType: "bert", Task: TokenClassification,
				Labels: []string{"O", "B-PER", "I-PER"},
			},
		},
		{
			"StructBERT", files("config.json", `{"model_type": "structbert", "num_labels": 5}`,
				"configuration.json", `{"task": "text-classification", "model": {"type": "structbert"}}`,
				"label_mapping.json", `{"负面": 0, "正面": 1}`),
			Config{
				Architecture: "BertForSequenceClassification", ModelType: "bert", Task: SequenceClassification,
				Labels: []string{"负面", "正面"},
			},
		},
		{
			"labels of the preprocessor, no model_type", files("config.json", `{"architectures": ["BertForTokenClassification"]}`,
				"configuration.json", `{"task": "token-classification", "preprocessor": {"label2id": {"O": "0", "S-X": "1"}}}`),
			Config{
				Architecture: "BertForTokenClassification", ModelType: "bert", Task: TokenClassification,
				Labels: []string{"O", "S-X"},
			},
		},
		{
			"AdaSeq", files("config.json", `{"model_type": "bert"}`,
				"configuration.json", `{"task": "named-entity-recognition", "model": {"type": "sequence-labeling-model", "id_to_label": {"0": "O", "1": "S-X"}}}`),
			Config{
				Architecture: "BertForTokenClassification", ModelType: "bert", Task: TokenClassification,
				Labels: []string{"O", "S-X"},
			},
		},
		{
			"a family that no engine here has, for ONNX", files("config.json",
				`{"architectures": ["XLMRobertaForTokenClassification"], "model_type": "xlm-roberta", `+labels+`}`),
			Config{
				Architecture: "XLMRobertaForTokenClassification", ModelType: "xlm-roberta", Task: TokenClassification,
				Labels: []string{"O", "B-PER", "I-PER"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := OpenFS("test", tt.fsys)
			if err != nil {
				t.Fatal(err)
			}
			if string(dir.Config.Raw) != string(tt.fsys["config.json"].Data) {
				t.Error("Raw is not config.json")
			}
			dir.Config.Raw = nil
			if got, want := fmt.Sprintf("%+v", dir.Config), fmt.Sprintf("%+v", tt.want); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestErrorsSayWhichFileLacksWhat(t *testing.T) {
	const start = `{"architectures": ["BertForTokenClassification"], "model_type": "bert", `
	tests := []struct {
		name, want string
		fsys       fstest.MapFS
	}{
		{"nothing there", "config.json is missing", files("README.md", "")},
		{"not JSON", "parsing config.json", files("config.json", "<html>")},
		{"ModelScope file not JSON", "parsing configuration.json", files("config.json", start+`"num_labels": 2}`, "configuration.json", "[]")},
		{"no architecture", `config.json has no "architectures"`, files("config.json", `{"num_labels": 2}`)},
		{"wrong head", `architecture "BertForMaskedLM"`, files("config.json", `{"architectures": ["BertForMaskedLM"], "num_labels": 2}`)},
		{"wrong task", `task "translation"`, files("config.json", `{"num_labels": 2}`, "configuration.json", `{"task": "translation"}`)},
		{"no labels", `config.json lacks "id2label"`, files("config.json", start+`"id2label": null}`)},
		{"empty labels", "config.json: the label map is empty", files("config.json", start+`"id2label": {}}`)},
		{"gap", "none has the id 1", files("config.json", start+`"id2label": {"0": "O", "2": "B-X"}}`)},
		{"twice", "same id 0", files("config.json", start+`"label2id": {"O": 0, "B-X": 0}}`)},
		{"bad id", `id "zero"`, files("config.json", start+`"id2label": {"zero": "O"}}`)},
		{"negative id", `id "-1"`, files("config.json", start+`"id2label": {"-1": "O"}}`)},
		{"fraction", `id "0.5"`, files("config.json", start+`"label2id": {"O": 0.5}}`)},
		{"no name", "label of id 0 is empty", files("config.json", start+`"id2label": {"0": " "}}`)},
		{"odd value", "neither a string nor a number", files("config.json", start+`"id2label": {"0": []}}`)},
		{"label_mapping.json", "label_mapping.json: parsing", files("config.json", start+`"num_labels": 2}`, "label_mapping.json", `"x"`)},
		{"positions", "max_position_embeddings is -1", files("config.json", start+`"num_labels": 2, "max_position_embeddings": -1}`)},
		{"far too large", "more than 8 MiB", files("config.json", strings.Repeat(" ", maxJSON+1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := OpenFS("the-model", tt.fsys)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "the-model") {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestOpenNeedsADirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, path := range map[string]string{
		"no such directory":      filepath.Join(dir, "absent"),
		"give the directory":     file,
		`has no "architectures"`: dir,
	} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}

const twoLabels = `{"architectures": ["BertForTokenClassification"], "model_type": "bert", "id2label": {"0": "O", "1": "S-X"}}`

func TestMissingWeightsSayWhatToDo(t *testing.T) {
	for other, want := range map[string]string{
		"README.md":                    "model.safetensors is missing",
		"pytorch_model.bin":            "convert.py",
		"model.safetensors.index.json": "join them",
		"model.onnx":                   "engine onnxruntime",
	} {
		dir, err := OpenFS("the-model", files("config.json", twoLabels, other, ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dir.Weights(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "the-model") {
			t.Errorf("%s: got %v, want %q", other, err, want)
		}
	}
}

func encode(t testing.TB, tensors ...safetensors.Tensor) string {
	t.Helper()
	var b bytes.Buffer
	if err := safetensors.Write(&b, tensors); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func crfTensors(prefix string, labels int) []safetensors.Tensor {
	tensor := func(name string, first byte, shape ...int) safetensors.Tensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		data := make([]byte, 2*n)
		for i := range n {
			data[2*i+1] = 0x3c // half precision: 1, 2, 4, …
			data[2*i+1] += 4 * (first + byte(i))
		}
		return safetensors.Tensor{Name: prefix + name, DType: safetensors.F16, Shape: shape, Data: data}
	}
	return []safetensors.Tensor{
		tensor("crf.transitions", 0, labels, labels), tensor("crf.start_transitions", 1, labels), tensor("crf.end_transitions", 2, labels),
	}
}

func TestCRFIsReadFromWeightsOrFromItsOwnFile(t *testing.T) {
	want := "&{Transitions:[[1 2] [4 8]] Start:[2 4] End:[4 8]}"
	for name, fsys := range map[string]fstest.MapFS{
		"in the weights":     files("config.json", twoLabels, WeightsFile, encode(t, crfTensors("", 2)...)),
		"with a prefix":      files("config.json", twoLabels, WeightsFile, encode(t, crfTensors("model.", 2)...)),
		"beside an ONNX":     files("config.json", twoLabels, ONNXFile, "", CRFFile, encode(t, crfTensors("", 2)...)),
		"beside the weights": files("config.json", twoLabels, WeightsFile, encode(t), CRFFile, encode(t, crfTensors("", 2)...)),
	} {
		dir, err := OpenFS(name, fsys)
		if err != nil {
			t.Fatal(err)
		}
		crf, err := dir.CRF()
		if got := fmt.Sprintf("%+v", crf); err != nil || got != want {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	dir, err := OpenFS("none", files("config.json", twoLabels, WeightsFile, encode(t)))
	if err != nil {
		t.Fatal(err)
	}
	if crf, err := dir.CRF(); crf != nil || err != nil {
		t.Errorf("without a CRF: got %v, %v", crf, err)
	}
}

func TestABrokenCRFIsRefused(t *testing.T) {
	for want, tensors := range map[string][]safetensors.Tensor{
		"shape [3 3], expected [2 2]":        crfTensors("", 3),
		`"crf.end_transitions" is missing`:   crfTensors("", 2)[:2],
		`"crf.start_transitions" is missing`: crfTensors("", 2)[:1],
	} {
		dir, err := OpenFS("the-model", files("config.json", twoLabels, WeightsFile, encode(t, tensors...)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dir.CRF(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), WeightsFile) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestDigestIsWhatSha256sumSays(t *testing.T) {
	contents := map[string]string{"config.json": twoLabels, "vocab.txt": "[PAD]\n", WeightsFile: encode(t)}
	path := t.TempDir()
	fsys := fstest.MapFS{"README.md": {Data: []byte("not part of the model")}, "pytorch_model.bin": {Data: []byte("nor this")}}
	var list string
	for _, name := range []string{"config.json", WeightsFile, "vocab.txt"} {
		fsys[name] = &fstest.MapFile{Data: []byte(contents[name])}
		if err := os.WriteFile(filepath.Join(path, name), []byte(contents[name]), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(contents[name]))
		list += hex.EncodeToString(sum[:]) + "  " + name + "\n"
	}
	sum := sha256.Sum256([]byte(list))
	want := "sha256:" + hex.EncodeToString(sum[:])

	embedded, err := OpenFS("builtin/x", fsys)
	if err != nil {
		t.Fatal(err)
	}
	onDisk, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []*Dir{embedded, onDisk, onDisk} {
		if got, err := dir.Digest(); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", dir.Name, got, err, want)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "vocab.txt"), []byte("[PAD]\n[UNK]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := onDisk.Digest(); err != nil || got == want {
		t.Errorf("after a change: got %s, %v", got, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(twoLabels), []byte(`{"task": "text-classification", "model": {"type": "structbert", "label2id": {"a": 0}}}`), []byte(`{"a": "0"}`))
	f.Add([]byte(`{"num_labels": 3, "architectures": ["BertForTokenClassification"]}`), []byte(`{}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, config, modelScope, labels []byte) {
		c, err := configFiles{config, modelScope, labels}.parse()
		if err != nil {
			return
		}
		if len(c.Labels) == 0 || len(c.Labels) > maxLabels || slices.Contains(c.Labels, "") {
			t.Errorf("labels %q", c.Labels)
		}
		if c.Task != TokenClassification && c.Task != SequenceClassification {
			t.Errorf("task %q", c.Task)
		}
	})
}

func TestFilesOfOtherProgramsModelsHaveADigest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	digest := func() string {
		t.Helper()
		sum, err := DigestFiles(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	write("README.md", "x")
	if _, err := DigestFiles(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "no file of a model is there") {
		t.Errorf("error %v", err)
	}
	write("pytorch_model.bin", "weights")
	torch := digest()
	write("README.md", "other")
	if digest() != torch {
		t.Error("a README changes the digest")
	}
	write("pytorch_model.bin", "weightz") // of the same size, a moment later
	if err := os.Chtimes(filepath.Join(dir, "pytorch_model.bin"), time.Time{}, time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if digest() == torch {
		t.Error("other weights have the same digest")
	}
	// Beside weights that this project runs, those of others do not count: the
	// digest is then the one that a node of this project shows.
	write("model.safetensors", "tensors")
	ours := digest()
	if sum, err := (&Dir{Name: dir, Path: dir, FS: os.DirFS(dir)}).Digest(); err != nil || sum != ours {
		t.Errorf("%s, %v; want %s", sum, err, ours)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write("model.safetensors", "longer tensors")
	if _, err := DigestFiles(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
