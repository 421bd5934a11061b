package goengine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-infer/caddy-infer/inference/kernels"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func init() { families["bert"] = newBERT }

// bertConfig is what BERT reads of config.json.
type bertConfig struct {
	Vocab        int      `json:"vocab_size"`
	Hidden       int      `json:"hidden_size"`
	Layers       int      `json:"num_hidden_layers"`
	Heads        int      `json:"num_attention_heads"`
	Intermediate int      `json:"intermediate_size"`
	Positions    int      `json:"max_position_embeddings"`
	Types        int      `json:"type_vocab_size"`
	Activation   string   `json:"hidden_act"`
	Epsilon      *float32 `json:"layer_norm_eps"`
	PositionType string   `json:"position_embedding_type"`
}

// bert is the encoder of Devlin et al., https://arxiv.org/abs/1810.04805,
// with a head for tokens or for the whole sequence. StructBERT and RaNER's
// encoder are the same network.
type bert struct {
	bertConfig
	activation func([]float32)

	words, positions []float32 // positions have the embedding of segment 0 added
	embedded         norm
	layers           []bertLayer
	pooler           *linear // of the sequence head; nil for the token head
	head             linear
	labels           int

	threads threads
	buffers sync.Pool // of *bertBuffers
}

type bertLayer struct {
	query, key, value, merge linear
	attended                 norm
	up, down                 linear
	out                      norm
}

func newBERT(l *loader, config modeldir.Config, threads threads) (network, limits, error) {
	b := &bert{bertConfig: bertConfig{Activation: "gelu"}, threads: threads, labels: len(config.Labels)}
	if err := json.Unmarshal(config.Raw, &b.bertConfig); err != nil {
		return nil, limits{}, fmt.Errorf("parsing config.json: %w", err)
	}
	if err := b.validate(); err != nil {
		return nil, limits{}, fmt.Errorf("config.json: %w", err)
	}
	prefix, err := encoderPrefix(l)
	if err != nil {
		return nil, limits{}, err
	}
	epsilon := float32(1e-12)
	if b.Epsilon != nil {
		epsilon = *b.Epsilon
	}
	h := b.Hidden
	embeddings := prefix + "embeddings."
	b.words = l.tensor(embeddings+"word_embeddings.weight", b.Vocab, h)
	b.positions = positioned(
		l.tensor(embeddings+"position_embeddings.weight", b.Positions, h),
		l.tensor(embeddings+"token_type_embeddings.weight", b.Types, h), h)
	b.embedded = l.norm(embeddings+"LayerNorm", h, epsilon)
	for i := range b.Layers {
		at := fmt.Sprintf("%sencoder.layer.%d.", prefix, i)
		b.layers = append(b.layers, bertLayer{
			query:    l.layer(at+"attention.self.query", h, h),
			key:      l.layer(at+"attention.self.key", h, h),
			value:    l.layer(at+"attention.self.value", h, h),
			merge:    l.layer(at+"attention.output.dense", h, h),
			attended: l.norm(at+"attention.output.LayerNorm", h, epsilon),
			up:       l.layer(at+"intermediate.dense", b.Intermediate, h),
			down:     l.layer(at+"output.dense", h, b.Intermediate),
			out:      l.norm(at+"output.LayerNorm", h, epsilon),
		})
		if len(l.problems) > 0 {
			break // the same again for every layer would not help
		}
	}
	if config.Task == modeldir.SequenceClassification {
		pooler := l.linear(prefix+"pooler.dense", h, h)
		b.pooler = &pooler
	}
	b.head = l.linear(headName(l), b.labels, h)
	return b, limits{vocab: b.Vocab, maxTokens: b.Positions}, nil
}

// Bounds that no encoder of this family comes near; they keep a broken
// config.json from overflowing products of sizes.
const (
	maxWidth  = 1 << 16
	maxVocab  = 1 << 24
	maxLayers = 1 << 10
)

func (b *bert) validate() error {
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"vocab_size", b.Vocab, maxVocab},
		{"hidden_size", b.Hidden, maxWidth},
		{"num_hidden_layers", b.Layers, maxLayers},
		{"num_attention_heads", b.Heads, maxWidth},
		{"intermediate_size", b.Intermediate, maxWidth},
		{"max_position_embeddings", b.Positions, maxVocab},
		{"type_vocab_size", b.Types, maxWidth},
	} {
		if f.value < 1 || f.value > f.most {
			return fmt.Errorf("%s is %d: must be 1 to %d", f.name, f.value, f.most)
		}
	}
	if b.Epsilon != nil && *b.Epsilon < 0 {
		return fmt.Errorf("layer_norm_eps is %v: must not be negative", *b.Epsilon)
	}
	if b.Hidden%b.Heads != 0 {
		return fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", b.Hidden, b.Heads)
	}
	if b.PositionType != "" && b.PositionType != "absolute" {
		return fmt.Errorf("position_embedding_type %q: only absolute positions are known: use `engine onnxruntime`", b.PositionType)
	}
	switch b.Activation {
	case "gelu":
		b.activation = kernels.GELU
	case "gelu_new", "gelu_pytorch_tanh":
		b.activation = kernels.GELUTanh
	case "relu":
		b.activation = kernels.ReLU
	default:
		return fmt.Errorf("hidden_act %q: gelu, gelu_new, gelu_pytorch_tanh and relu are known: use `engine onnxruntime`", b.Activation)
	}
	return nil
}

const wordEmbeddings = "embeddings.word_embeddings.weight"

// encoderPrefix finds what a model class puts before the encoder's tensors:
// "bert." in Hugging Face's and StructBERT's classes, "encoder." in RaNER,
// "embedder.transformer_model." in AdaSeq, and "model." before any of them
// when a trainer saved its wrapper.
func encoderPrefix(l *loader) (string, error) {
	for _, name := range l.file.Names() {
		if prefix, ok := strings.CutSuffix(name, wordEmbeddings); ok && (prefix == "" || strings.HasSuffix(prefix, ".")) {
			return prefix, nil
		}
	}
	return "", fmt.Errorf("reading model.safetensors: no tensor …%s: these are not the weights of a BERT", wordEmbeddings)
}

// headName finds the layer that produces logits: "classifier" in Hugging
// Face's and StructBERT's classes, "linear" in RaNER's.
func headName(l *loader) string {
	for _, name := range []string{"classifier", "linear", "head.classifier", "model.classifier", "model.linear"} {
		if _, ok := l.file.Tensor(name + ".weight"); ok {
			return name
		}
	}
	return "classifier"
}

// positioned adds the embedding of segment 0, the only one in use, to that of
// every position.
func positioned(positions, types []float32, hidden int) []float32 {
	if positions == nil || types == nil {
		return nil // the loader has said so
	}
	out := slices.Clone(positions)
	for at := 0; at < len(out); at += hidden {
		kernels.Add(out[at:at+hidden], types[:hidden])
	}
	return out
}
