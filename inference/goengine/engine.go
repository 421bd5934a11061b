// Package goengine is the engine "go": encoders computed in Go from
// model.safetensors, without native libraries.
//
// A batch is not padded. The tokens of all its sequences are laid out one
// after the other, linear layers run over the whole of them, and only
// attention looks at where a sequence begins and ends.
package goengine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/kernels"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func init() { engine.Register("go", Open) }

// A network is the arithmetic of one model. forward is called concurrently.
type network interface {
	// forward computes the logits of sequences that have been checked, and
	// returns ctx.Err() soon after the context has ended.
	forward(ctx context.Context, batch []engine.Sequence) ([]engine.Logits, error)
}

// A limits says what sequences a network takes.
type limits struct {
	vocab     int // ids are 0 to vocab-1
	maxTokens int // per sequence; 0 means any number
}

// A family builds the networks of one model_type of config.json. It takes its
// tensors from the loader, which collects what is missing or misshapen.
type family func(l *loader, config modeldir.Config, threads threads) (network, limits, error)

// families by model_type. Each family's file adds its own.
var families = map[string]family{}

type model struct {
	network
	limits
	loader    *loader
	precision engine.Precision
}

// Open loads the model in dir, in fp32 unless the options ask for int8:
// models stored with 8-bit or 16-bit weights are widened as they are read.
// With int8, the layers of an encoder are quantised from those weights, see
// CacheFile; heads stay in fp32.
func Open(dir *modeldir.Dir, opts engine.Options) (engine.Engine, error) {
	build, ok := families[dir.Config.ModelType]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(families)), ", ")
		return nil, fmt.Errorf("loading model %s: the engine \"go\" has no network for model_type %q (it has %s): use `engine onnxruntime` with a model.onnx",
			dir.Name, dir.Config.ModelType, known)
	}
	if _, cuda := opts.Device.CUDA(); cuda {
		return nil, fmt.Errorf("loading model %s: device %s: the engine \"go\" computes on the CPU: use `engine onnxruntime` with a model.onnx",
			dir.Name, opts.Device)
	}
	m := &model{precision: opts.Precision}
	switch opts.Precision {
	case "":
		m.precision = engine.FP32
	case engine.FP32, engine.INT8:
	default:
		return nil, fmt.Errorf("loading model %s: unknown precision %q", dir.Name, opts.Precision)
	}
	file, err := dir.Weights()
	if err != nil {
		return nil, err
	}
	load := func(l *loader) (network, limits, error) { return build(l, dir.Config, threads(max(opts.Threads, 0))) }
	m.loader = &loader{file: file}
	if m.precision == engine.INT8 {
		m.network, m.limits, m.loader, err = openINT8(dir, m.loader, load)
	} else {
		m.network, m.limits, err = load(m.loader)
	}
	if err == nil {
		err = m.loader.err()
	}
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
	}
	return m, nil
}

// passTokens is how many tokens go through the network at a time: enough to
// read each weight rarely, few enough that buffers stay small (BERT-base: 14
// MB) and that a cancelled pass ends soon.
const passTokens = 512

func (m *model) Run(ctx context.Context, batch []engine.Sequence) (out []engine.Logits, err error) {
	if err := m.check(batch); err != nil {
		return nil, err
	}
	// Weights that were cut off after they were mapped would end the process.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			out, err = nil, fmt.Errorf("running model: %s was changed while in use: reload the model (and replace such files by renaming)", modeldir.WeightsFile)
		}
	}()
	passes.Add(1)
	defer passes.Add(-1)
	out = make([]engine.Logits, 0, len(batch))
	for len(batch) > 0 {
		n, tokens := 1, len(batch[0].IDs)
		for n < len(batch) && tokens+len(batch[n].IDs) <= passTokens {
			tokens += len(batch[n].IDs)
			n++
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		logits, err := m.forward(ctx, batch[:n])
		if err != nil {
			return nil, err
		}
		out, batch = append(out, logits...), batch[n:]
	}
	return out, nil
}

func (m *model) check(batch []engine.Sequence) error {
	for i, s := range batch {
		if len(s.IDs) == 0 {
			return fmt.Errorf("running model: sequence %d is empty", i)
		}
		if m.maxTokens > 0 && len(s.IDs) > m.maxTokens {
			return fmt.Errorf("running model: sequence %d has %d tokens, the model takes %d", i, len(s.IDs), m.maxTokens)
		}
		for _, id := range s.IDs {
			if id < 0 || int(id) >= m.vocab {
				return fmt.Errorf("running model: token id %d is outside the model's vocabulary of %d: vocab.txt and weights do not belong together", id, m.vocab)
			}
		}
	}
	return nil
}

func (m *model) Info() engine.Info {
	return engine.Info{
		Engine: "go", Precision: m.precision, Device: engine.CPU, Version: "kernels for " + kernels.Level(), Warning: kernels.Warning(),
		WeightBytes: m.loader.bytes,
	}
}

func (m *model) Close() error {
	err := m.loader.file.Close()
	if q := m.loader.int8; q != nil && q.cache != nil {
		err = errors.Join(err, q.cache.Close())
	}
	return err
}
