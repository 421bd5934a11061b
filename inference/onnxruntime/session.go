//go:build cgo

package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// session is a loaded graph. ONNX Runtime's Run is safe for concurrent use.
type session struct {
	graph  graph
	config modeldir.Config
	info   engine.Info

	// A Run holds mu for reading, so that a Close which comes too early waits
	// instead of freeing what native code still reads.
	mu     sync.RWMutex
	native *ort.DynamicAdvancedSession // nil once closed
}

// Info implements engine.Engine.
func (s *session) Info() engine.Info { return s.info }

// Close implements engine.Engine. Closing twice is no mistake.
func (s *session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.native == nil {
		return nil
	}
	err := s.native.Destroy()
	s.native = nil
	process.release()
	if err != nil {
		return fmt.Errorf("closing the ONNX Runtime session: %w", err)
	}
	return nil
}

// Run implements engine.Engine. A batch is computed in several passes, each
// of sequences of similar length; when the context ends, the running pass is
// told to stop at the next node of the graph.
func (s *session) Run(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lengths, err := s.lengths(batch)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.native == nil {
		return nil, errors.New("running the model: it is closed")
	}

	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("running the model: %w", err)
	}
	terminated := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = options.Terminate() // fails only on a destroyed value
	})
	defer func() {
		if !stop() {
			<-terminated
		}
		free(options)
	}()

	results := make([]engine.Logits, len(batch))
	for _, b := range plan(lengths, s.graph.padded) {
		err := s.pass(options, batch, b, results)
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, ctxErr
		}
		if err != nil {
			return nil, fmt.Errorf("running the model: %w", err)
		}
	}
	return results, nil
}

func (s *session) lengths(batch []engine.Sequence) ([]int, error) {
	lengths := make([]int, len(batch))
	for i, seq := range batch {
		n := len(seq.IDs)
		if n == 0 {
			return nil, fmt.Errorf("running the model: sequence %d is empty", i)
		}
		if limit := s.config.MaxTokens; limit > 0 && n > limit {
			return nil, fmt.Errorf("running the model: sequence %d has %d tokens, and the network takes %d", i, n, limit)
		}
		lengths[i] = n
	}
	return lengths, nil
}

// pass computes one bucket and puts its logits in their places of results.
func (s *session) pass(options *ort.RunOptions, batch []engine.Sequence, b bucket, results []engine.Logits) error {
	inputs, err := s.graph.tensors(batch, b)
	defer freeAll(inputs)
	if err != nil {
		return err
	}
	outputs := []ort.Value{nil}
	if err := s.native.RunWithOptions(inputs, outputs, options); err != nil {
		return err
	}
	defer freeAll(outputs)
	logits, ok := outputs[0].(*ort.Tensor[float32])
	if !ok {
		return fmt.Errorf("the graph returned %s as %T", s.graph.output, outputs[0])
	}
	cols := len(s.config.Labels)
	if err := s.graph.check(logits.GetShape(), len(b.seqs), b.length, cols); err != nil {
		return err
	}
	// The data is memory of Go that the tensor only borrowed: it outlives it,
	// and results can share it. The rows of padding are simply not named.
	data, stride := logits.GetData(), cols
	if s.graph.perToken {
		stride = b.length * cols
	}
	for i, seq := range b.seqs {
		rows := 1
		if s.graph.perToken {
			rows = len(batch[seq].IDs)
		}
		end := i*stride + rows*cols
		results[seq] = engine.Logits{Rows: rows, Cols: cols, Data: data[i*stride : end : end]}
	}
	return nil
}

// tensors makes the inputs of a pass: token ids padded with 0, the mask of
// the tokens that are real, and token types, which are all 0.
func (g graph) tensors(batch []engine.Sequence, b bucket) ([]ort.Value, error) {
	shape := ort.NewShape(int64(len(b.seqs)), int64(b.length))
	values := make([]ort.Value, 0, len(g.inputs))
	for _, input := range g.inputs {
		data := make([]int64, len(b.seqs)*b.length)
		for i, seq := range b.seqs {
			row := data[i*b.length:]
			for j, id := range batch[seq].IDs {
				switch input {
				case inputIDs:
					row[j] = int64(id)
				case attentionMask:
					row[j] = 1
				}
			}
		}
		t, err := ort.NewTensor(shape, data)
		if err != nil {
			return values, err
		}
		values = append(values, t)
	}
	return values, nil
}

func freeAll(values []ort.Value) {
	for _, v := range values {
		if v != nil {
			free(v)
		}
	}
}
