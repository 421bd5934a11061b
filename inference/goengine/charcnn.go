package goengine

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/kernels"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func init() { families["charcnn"] = newCharCNN }

// charCNNConfig is what the family reads of config.json.
type charCNNConfig struct {
	Vocab          int      `json:"vocab_size"`
	Hidden         int      `json:"hidden_size"`
	CharDim        int      `json:"char_dim"`
	BigramDim      int      `json:"bigram_dim"`
	BigramBuckets  int      `json:"bigram_buckets"`
	TrigramDim     int      `json:"trigram_dim"`
	TrigramBuckets int      `json:"trigram_buckets"`
	Dilations      []int    `json:"dilations"`
	Kernel         int      `json:"kernel_size"`
	Activation     string   `json:"hidden_act"`
	Epsilon        *float32 `json:"layer_norm_eps"`
}

// charCNN is the family of the built-in models: embeddings of a character
// and of the hashed n-grams around it, then residual blocks of dilated
// convolutions. Its twin in PyTorch is inference/builtin/train/charcnn.py.
//
// It costs about 0.6 million multiplications per character, a hundredth of
// BERT-base, because it has to serve without assembly or a native library.
type charCNN struct {
	charCNNConfig
	chars, bigrams, trigrams []float32
	project                  linear
	blocks                   []charCNNBlock
	out                      norm
	head                     linear
	labels                   int
	pooled                   bool // sequence head: maximum and mean over the tokens

	threads threads
	buffers sync.Pool // of *charCNNBuffers
}

// A charCNNBlock computes x + gelu(conv(norm(x))). The convolution is a
// linear layer over the token itself and its neighbours at a distance, left
// to right.
type charCNNBlock struct {
	norm     norm
	conv     linear
	dilation int
}

type charCNNBuffers struct {
	hidden, normed, taps, mixed []float32

	quantized kernels.Rows
}

// operand makes rows of x ready for a linear layer.
func (x *charCNNBuffers) operand(values []float32, rows int) *activations {
	return &activations{x: values, rows: rows, quantized: &x.quantized}
}

func newCharCNN(l *loader, config modeldir.Config, threads threads) (network, limits, error) {
	c := &charCNN{
		charCNNConfig: charCNNConfig{Kernel: charCNNTaps, Activation: "gelu"},
		labels:        len(config.Labels),
		pooled:        config.Task == modeldir.SequenceClassification,
		threads:       threads,
	}
	if err := json.Unmarshal(config.Raw, &c.charCNNConfig); err != nil {
		return nil, limits{}, fmt.Errorf("parsing config.json: %w", err)
	}
	if err := c.validate(); err != nil {
		return nil, limits{}, fmt.Errorf("config.json: %w", err)
	}
	epsilon := float32(1e-5)
	if c.Epsilon != nil {
		epsilon = *c.Epsilon
	}
	h := c.Hidden
	c.chars = l.tensor("embeddings.char.weight", c.Vocab, c.CharDim)
	c.bigrams = l.tensor("embeddings.bigram.weight", c.BigramBuckets, c.BigramDim)
	if c.TrigramBuckets > 0 {
		c.trigrams = l.tensor("embeddings.trigram.weight", c.TrigramBuckets, c.TrigramDim)
	}
	c.project = l.layer("proj", h, c.embedded())
	for i, dilation := range c.Dilations {
		at := fmt.Sprintf("blocks.%d.", i)
		c.blocks = append(c.blocks, charCNNBlock{
			norm:     l.norm(at+"norm", h, epsilon),
			conv:     l.layer(at+"conv", h, charCNNTaps, h), // over the concatenated taps
			dilation: dilation,
		})
	}
	c.out = l.norm("norm", h, epsilon)
	width := h
	if c.pooled {
		width = 2 * h
	}
	c.head = l.linear("head", c.labels, width)
	return c, limits{vocab: c.Vocab}, nil
}

// charCNNTaps is the width of the family's convolutions: a token and one
// neighbour on either side.
const charCNNTaps = 3

func (c *charCNN) validate() error {
	if c.TrigramBuckets == 0 {
		c.TrigramDim = 0
	}
	least := min(c.TrigramBuckets, 1) // without a table the width is 0
	for _, f := range []struct {
		name               string
		value, least, most int
	}{
		{"vocab_size", c.Vocab, 2, maxVocab},
		{"hidden_size", c.Hidden, 1, maxWidth},
		{"char_dim", c.CharDim, 1, maxWidth},
		{"bigram_dim", c.BigramDim, 1, maxWidth},
		{"bigram_buckets", c.BigramBuckets, 1, maxVocab},
		{"trigram_dim", c.TrigramDim, least, maxWidth},
		{"trigram_buckets", c.TrigramBuckets, 0, maxVocab},
		{"number of dilations", len(c.Dilations), 1, maxLayers},
		{"kernel_size", c.Kernel, charCNNTaps, charCNNTaps},
	} {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("%s is %d: must be %d to %d", f.name, f.value, f.least, f.most)
		}
	}
	for _, d := range c.Dilations {
		if d < 1 || d > maxWidth {
			return fmt.Errorf("dilation %d: must be 1 to %d", d, maxWidth)
		}
	}
	if c.Activation != "gelu" {
		return fmt.Errorf("hidden_act %q: this family has gelu only", c.Activation)
	}
	return nil
}

// embedded is the width of a token's embeddings before the projection.
func (c *charCNN) embedded() int { return c.CharDim + 2*c.BigramDim + c.TrigramDim }

func (c *charCNN) forward(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error) {
	tokens := 0
	for _, s := range batch {
		tokens += len(s.IDs)
	}
	x, _ := c.buffers.Get().(*charCNNBuffers)
	if x == nil {
		x = new(charCNNBuffers)
	}
	defer c.buffers.Put(x)
	n := tokens * c.Hidden
	x.hidden, x.normed, x.mixed = grown(x.hidden, n), grown(x.normed, n), grown(x.mixed, n)
	x.taps = grown(x.taps, tokens*max(c.embedded(), charCNNTaps*c.Hidden))

	at := 0
	for _, s := range batch {
		c.embed(x.taps[at:at+len(s.IDs)*c.embedded()], s.IDs)
		at += len(s.IDs) * c.embedded()
	}
	c.project.mul(x.hidden, x.operand(x.taps[:at], tokens), c.threads.now())
	for i := range c.blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.block(x, &c.blocks[i], batch, tokens)
	}
	c.out.apply(x.hidden)
	return c.logits(x, batch, tokens), nil
}

// embed writes one row per token: its character, the bigram with the token
// before, the bigram with the token after, and the trigram around it. A
// neighbour outside the sequence counts as id 0, as padding does in training.
func (c *charCNN) embed(dst []float32, ids []int32) {
	for t, id := range ids {
		var before, after uint32
		if t > 0 {
			before = uint32(ids[t-1])
		}
		if t+1 < len(ids) {
			after = uint32(ids[t+1])
		}
		here := uint32(id)
		dst = dst[copy(dst, row(c.chars, uint32(id), c.CharDim)):]
		dst = dst[copy(dst, row(c.bigrams, hashBigram(before, here)%uint32(c.BigramBuckets), c.BigramDim)):]
		dst = dst[copy(dst, row(c.bigrams, hashBigram(here, after)%uint32(c.BigramBuckets), c.BigramDim)):]
		if c.TrigramBuckets > 0 {
			dst = dst[copy(dst, row(c.trigrams, hashTrigram(before, here, after)%uint32(c.TrigramBuckets), c.TrigramDim)):]
		}
	}
}

func row(table []float32, i uint32, width int) []float32 {
	return table[int(i)*width : (int(i)+1)*width]
}

// The hashes of train/charcnn.py. The multipliers are odd constants of
// xxHash; the shift leaves out the bits that they mix least.
func hashBigram(a, b uint32) uint32 { return (a*0x9E3779B1 ^ b*0x85EBCA77) >> 7 }

func hashTrigram(a, b, c uint32) uint32 {
	return (a*0x9E3779B1 ^ b*0x85EBCA77 ^ c*0xC2B2AE3D) >> 7
}

func (c *charCNN) block(x *charCNNBuffers, b *charCNNBlock, batch []engine.Sequence, tokens int) {
	h := c.Hidden
	n := tokens * h
	normed, mixed := x.normed[:n], x.mixed[:n]
	copy(normed, x.hidden)
	b.norm.apply(normed)
	from := 0
	for _, s := range batch {
		to := from + len(s.IDs)*h
		spread(x.taps[from*charCNNTaps:to*charCNNTaps], normed[from:to], h, b.dilation)
		from = to
	}
	b.conv.mul(mixed, x.operand(x.taps[:n*charCNNTaps], tokens), c.threads.now())
	kernels.GELU(mixed)
	kernels.Add(x.hidden[:n], mixed)
}

// spread lays out, for each token of one sequence, the rows of the token at
// distance d before it, of itself and of the one d after it; zeros where
// there is none.
func spread(dst, src []float32, h, d int) {
	tokens := len(src) / h
	for t := range tokens {
		for _, from := range [charCNNTaps]int{t - d, t, t + d} {
			if from < 0 || from >= tokens {
				clear(dst[:h])
			} else {
				copy(dst[:h], src[from*h:(from+1)*h])
			}
			dst = dst[h:]
		}
	}
}

// logits applies the head and cuts the result up by sequence.
func (c *charCNN) logits(x *charCNNBuffers, batch []engine.Sequence, tokens int) []engine.Logits {
	features, rows := x.hidden, tokens
	if c.pooled {
		features, rows = x.taps, len(batch) // each sequence has 3h values there and needs 2h
		pool(features, x.hidden, batch, c.Hidden)
	}
	data := make([]float32, rows*c.labels)
	c.head.mul(data, x.operand(features, rows), c.threads.now())
	out := make([]engine.Logits, len(batch))
	for i, s := range batch {
		n := len(s.IDs)
		if c.pooled {
			n = 1
		}
		out[i] = engine.Logits{Rows: n, Cols: c.labels, Data: data[: n*c.labels : n*c.labels]}
		data = data[n*c.labels:]
	}
	return out
}

// pool writes the maximum and the mean over each sequence's tokens.
func pool(dst, hidden []float32, batch []engine.Sequence, h int) {
	for _, s := range batch {
		top, mean := dst[:h], dst[h:2*h]
		copy(top, hidden[:h])
		copy(mean, hidden[:h])
		for t := 1; t < len(s.IDs); t++ {
			token := hidden[t*h : (t+1)*h]
			for i, v := range token {
				top[i] = max(top[i], v)
			}
			kernels.Add(mean, token)
		}
		scale := 1 / float32(len(s.IDs))
		for i := range mean {
			mean[i] *= scale
		}
		dst, hidden = dst[2*h:], hidden[len(s.IDs)*h:]
	}
}
