package goengine

import (
	"context"
	"math"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/kernels"
)

// bertBuffers hold the activations of one pass over some tokens, one row for
// each token.
type bertBuffers struct {
	hidden, query, key, value, mixed, wide []float32

	quantized kernels.Rows
}

// operand makes rows of x ready for linear layers. It is for use before the
// next one is made.
func (x *bertBuffers) operand(values []float32, rows int) *activations {
	return &activations{x: values, rows: rows, quantized: &x.quantized}
}

// grown returns a slice of n values with any content, reusing s.
func grown(s []float32, n int) []float32 {
	if cap(s) < n {
		return make([]float32, n)
	}
	return s[:n]
}

func (x *bertBuffers) resize(tokens int, b *bert) {
	n := tokens * b.Hidden
	x.hidden, x.query, x.key = grown(x.hidden, n), grown(x.query, n), grown(x.key, n)
	x.value, x.mixed = grown(x.value, n), grown(x.mixed, n)
	x.wide = grown(x.wide, tokens*b.Intermediate)
}

func (b *bert) forward(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error) {
	tokens := 0
	for _, s := range batch {
		tokens += len(s.IDs)
	}
	x, _ := b.buffers.Get().(*bertBuffers)
	if x == nil {
		x = new(bertBuffers)
	}
	defer b.buffers.Put(x)
	x.resize(tokens, b)

	b.embed(x.hidden, batch)
	for i := range b.layers {
		layer := &b.layers[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.attention(x, layer, batch, tokens)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if b.pooler != nil && i == len(b.layers)-1 {
			// Only the first token of each sequence is looked at from here.
			tokens = gatherFirst(x, batch, b.Hidden)
		}
		b.feedForward(x, layer, tokens)
	}
	return b.logits(x, batch, tokens), nil
}

// embed sums word, position and segment embeddings.
func (b *bert) embed(hidden []float32, batch []engine.Sequence) {
	h, at := b.Hidden, 0
	for _, s := range batch {
		for position, id := range s.IDs {
			row := hidden[at*h : (at+1)*h]
			copy(row, b.words[int(id)*h:(int(id)+1)*h])
			kernels.Add(row, b.positions[position*h:(position+1)*h])
			at++
		}
	}
	b.embedded.apply(hidden)
}

// attention leaves the mixed values of each token in x.mixed.
func (b *bert) attention(x *bertBuffers, layer *bertLayer, batch []engine.Sequence, tokens int) {
	hidden := x.operand(x.hidden, tokens)
	layer.query.mul(x.query, hidden, b.threads.now())
	layer.key.mul(x.key, hidden, b.threads.now())
	layer.value.mul(x.value, hidden, b.threads.now())
	h, dim := b.Hidden, b.Hidden/b.Heads
	scale := float32(1 / math.Sqrt(float64(dim)))
	first := 0
	for _, s := range batch {
		n := len(s.IDs)
		from, to := first*h, (first+n)*h
		mixed, query := x.mixed[from:to], x.query[from:to]
		key, value := x.key[from:to], x.value[from:to]
		kernels.Parallel(b.Heads, b.threadsFor(n*n*h), func(head int) {
			at := head * dim
			kernels.Attention(mixed[at:], query[at:], key[at:], value[at:], n, h, dim, scale)
		})
		first += n
	}
}

// smallWork is the number of operations that is not worth a goroutine.
const smallWork = 1 << 17

func (b *bert) threadsFor(operations int) int {
	if operations < smallWork {
		return 1
	}
	return b.threads.now()
}

// feedForward completes a layer: the attention's output projection, then the
// two-layer network, each with its residual and normalisation.
func (b *bert) feedForward(x *bertBuffers, layer *bertLayer, tokens int) {
	hidden, projected := x.hidden[:tokens*b.Hidden], x.query[:tokens*b.Hidden]
	layer.merge.mul(projected, x.operand(x.mixed, tokens), b.threads.now())
	b.addNorm(hidden, projected, layer.attended)

	wide := x.wide[:tokens*b.Intermediate]
	layer.up.mul(wide, x.operand(hidden, tokens), b.threads.now())
	kernels.ParallelRows(tokens, b.Intermediate, b.threads.now(), func(from, to int) {
		b.activation(wide[from*b.Intermediate : to*b.Intermediate])
	})
	layer.down.mul(projected, x.operand(wide, tokens), b.threads.now())
	b.addNorm(hidden, projected, layer.out)
}

// addNorm adds the residual and normalises.
func (b *bert) addNorm(hidden, residual []float32, n norm) {
	h := b.Hidden
	kernels.ParallelRows(len(hidden)/h, h, b.threads.now(), func(from, to int) {
		kernels.Add(hidden[from*h:to*h], residual[from*h:to*h])
		n.apply(hidden[from*h : to*h])
	})
}

// gatherFirst moves the rows of each sequence's first token to the front of
// hidden and mixed, and returns how many there are.
func gatherFirst(x *bertBuffers, batch []engine.Sequence, h int) int {
	first := 0
	for i, s := range batch {
		copy(x.hidden[i*h:(i+1)*h], x.hidden[first*h:])
		copy(x.mixed[i*h:(i+1)*h], x.mixed[first*h:])
		first += len(s.IDs)
	}
	return len(batch)
}

// logits applies the head and cuts the result up by sequence.
func (b *bert) logits(x *bertBuffers, batch []engine.Sequence, rows int) []engine.Logits {
	hidden := x.hidden
	if b.pooler != nil {
		hidden = x.query[:rows*b.Hidden]
		b.pooler.mul(hidden, x.operand(x.hidden, rows), b.threads.now())
		kernels.Tanh(hidden)
	}
	data := make([]float32, rows*b.labels)
	b.head.mul(data, x.operand(hidden, rows), b.threads.now())
	out := make([]engine.Logits, len(batch))
	for i, s := range batch {
		n := len(s.IDs)
		if b.pooler != nil {
			n = 1
		}
		out[i] = engine.Logits{Rows: n, Cols: b.labels, Data: data[: n*b.labels : n*b.labels]}
		data = data[n*b.labels:]
	}
	return out
}
