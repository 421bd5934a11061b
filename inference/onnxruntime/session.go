//go:build cgo

package onnxruntime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
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

func open(dir *modeldir.Dir, opts engine.Options) (engine.Engine, error) {
	file, precision, err := chooseFile(dir, opts.Precision)
	if err != nil {
		return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
	}
	if err := process.retain(opts.Library); err != nil {
		return nil, err
	}
	s := &session{config: dir.Config, info: engine.Info{Engine: name, Precision: precision, Version: ort.GetVersion()}}
	if err := s.load(dir, file, opts); err != nil {
		process.release()
		return nil, fmt.Errorf("loading model %s: %s: %w", dir.Name, file, err)
	}
	return s, nil
}

func (s *session) load(dir *modeldir.Dir, file string, opts engine.Options) error {
	source, err := newSource(dir, file)
	if err != nil {
		return err
	}
	s.info.WeightBytes = source.size

	inputs, outputs, err := source.ports()
	if err != nil {
		return err
	}
	if s.graph, err = inspect(inputs, outputs, dir.Config); err != nil {
		return err
	}
	options, err := sessionOptions(opts)
	if err != nil {
		return err
	}
	defer options.Destroy()
	s.native, err = source.session(s.graph, options)
	return err
}

// sessionOptions are chosen for a server that runs several passes at a time.
func sessionOptions(opts engine.Options) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(max(1, opts.Threads)),
		o.SetInterOpNumThreads(1),
		// Batches change their shape with every call, so that remembering the
		// memory layout of each shape costs without gain. The arena stays on:
		// without it BERT-base INT8 took 456 MB instead of 329.
		o.SetMemPattern(false),
		// With more than one thread they spin between the parts of a pass,
		// which is worth 30 % of throughput, but not after it.
		o.AddSessionConfigEntry("session.force_spinning_stop", "1"),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if err != nil {
		o.Destroy()
		return nil, err
	}
	return o, nil
}

// source is a graph's file: a path, or the bytes of an embedded one.
type source struct {
	path string
	data []byte
	size int64
}

func newSource(dir *modeldir.Dir, file string) (source, error) {
	if dir.Path == "" {
		data, err := fs.ReadFile(dir.FS, file)
		return source{data: data, size: int64(len(data))}, err
	}
	src := source{path: filepath.Join(dir.Path, filepath.FromSlash(file))}
	// Exporters put the weights of large graphs in a file beside them.
	for _, f := range []string{file, file + ".data", file + "_data"} {
		info, err := fs.Stat(dir.FS, f)
		if err != nil && f == file {
			return src, err
		}
		if err == nil {
			src.size += info.Size()
		}
	}
	return src, nil
}

// ports reads the inputs and outputs. The binding can only do so with a
// session of its own, which is made cheap by leaving out all optimisation.
func (src source) ports() (inputs, outputs []port, err error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, nil, err
	}
	defer o.Destroy()
	err = errors.Join(
		o.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll),
		o.AddSessionConfigEntry("session.disable_prepacking", "1"),
		o.SetIntraOpNumThreads(1),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if err != nil {
		return nil, nil, err
	}
	var in, out []ort.InputOutputInfo
	if src.data != nil {
		in, out, err = ort.GetInputOutputInfoWithONNXData(src.data)
	} else {
		in, out, err = ort.GetInputOutputInfoWithOptions(src.path, o)
	}
	return toPorts(in), toPorts(out), err
}

func toPorts(infos []ort.InputOutputInfo) []port {
	ports := make([]port, len(infos))
	for i, info := range infos {
		dtype := strings.ToLower(strings.TrimPrefix(info.DataType.String(), "ONNX_TENSOR_ELEMENT_DATA_TYPE_"))
		if info.OrtValueType != ort.ONNXTypeTensor {
			dtype = "no tensor"
		}
		ports[i] = port{info.Name, dtype, info.Dimensions}
	}
	return ports
}

func (src source) session(g graph, o *ort.SessionOptions) (*ort.DynamicAdvancedSession, error) {
	if src.data != nil {
		return ort.NewDynamicAdvancedSessionWithONNXData(src.data, g.inputs, []string{g.output}, o)
	}
	return ort.NewDynamicAdvancedSession(src.path, g.inputs, []string{g.output}, o)
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
		options.Destroy()
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
	defer destroy(inputs)
	if err != nil {
		return err
	}
	outputs := []ort.Value{nil}
	if err := s.native.RunWithOptions(inputs, outputs, options); err != nil {
		return err
	}
	defer destroy(outputs)
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

func destroy(values []ort.Value) {
	for _, v := range values {
		if v != nil {
			v.Destroy()
		}
	}
}
