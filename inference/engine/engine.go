// Package engine is the boundary between the text side of a model
// (tokenizer, windows, batching, decoding) and the code that computes its
// network. An engine sees token ids and returns logits; it knows neither
// text nor HTTP.
//
// Engines register themselves under a name, in an init function, as database
// drivers do. "go" is in the default binary; "onnxruntime" is a Go module of
// its own that a build adds.
package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// Sequence is one input of a forward pass: the token ids of one window of
// text, special tokens included. The segment (token type) is always 0.
type Sequence struct {
	IDs []int32
}

// Logits is the output for one Sequence, row-major. Token classification has
// one row per id of the sequence, special tokens included; sequence
// classification has exactly one row. Cols is the number of labels.
type Logits struct {
	Rows, Cols int
	Data       []float32
}

// Row returns the logits of row i, aliasing Data.
func (l Logits) Row(i int) []float32 { return l.Data[i*l.Cols : (i+1)*l.Cols] }

// Precision is the arithmetic that a model's large matrices are held in.
type Precision string

// The precisions of the `precision` option.
const (
	FP32 Precision = "fp32"
	INT8 Precision = "int8"
)

// Options say how an engine should run a model.
type Options struct {
	// Precision of the weights. Empty means the engine's best for the files
	// that are there.
	Precision Precision
	// Threads used inside one forward pass; 0 leaves it to the engine.
	Threads int
	// Library is the path of the engine's native library, for engines that
	// need one; empty means that the engine looks for it.
	Library string
	// Device that computes; an engine refuses one that it can't use.
	Device Device
}

// Info describes a running engine to logs, /health and metrics.
type Info struct {
	// Engine is the name it was registered under.
	Engine string
	// Precision that is really in use.
	Precision Precision
	// Device that computes.
	Device Device
	// Version of the native library, or the kernel level in use.
	Version string
	// Warning is what an operator should be told once: the engine runs, but
	// not as the environment asks for.
	Warning string
	// WeightBytes is the memory that the weights take, mapped files included.
	WeightBytes int64
}

// Engine computes the logits of a loaded model.
type Engine interface {
	// Run computes one Logits per Sequence, in order. It is safe for
	// concurrent use, never keeps or changes the batch, and returns early
	// with ctx.Err() when the context ends. Sequences of different lengths
	// are welcome in one batch: avoiding padding is the engine's business.
	Run(ctx context.Context, batch []Sequence) ([]Logits, error)
	// Info describes the engine.
	Info() Info
	// Close frees the model. No Run may be in progress or follow.
	Close() error
}

// Opener loads the model in dir.
type Opener func(dir *modeldir.Dir, opts Options) (Engine, error)

var (
	mu      sync.RWMutex
	openers = map[string]Opener{}
)

// Register makes an engine available under name. It panics when the name is
// taken, because two engines of one name are a build mistake.
func Register(name string, open Opener) {
	mu.Lock()
	defer mu.Unlock()
	if _, taken := openers[name]; taken {
		panic("engine: " + name + " is registered twice")
	}
	openers[name] = open
}

// Names returns the registered engines, sorted.
func Names() []string {
	mu.RLock()
	defer mu.RUnlock()
	return slices.Sorted(maps.Keys(openers))
}

// Open loads the model in dir with the named engine.
func Open(name string, dir *modeldir.Dir, opts Options) (Engine, error) {
	mu.RLock()
	open, ok := openers[name]
	mu.RUnlock()
	if !ok {
		return nil, unknown(name)
	}
	return open(dir, opts)
}

func unknown(name string) error {
	if name == "onnxruntime" {
		return fmt.Errorf("engine onnxruntime is not in this binary: build one with " +
			"CGO_ENABLED=1 xcaddy build v2.11.9 " +
			"--with github.com/caddy-infer/caddy-infer " +
			"--with github.com/caddy-infer/caddy-infer/inference/onnxruntime")
	}
	return fmt.Errorf("unknown engine %q: this binary has %s", name, strings.Join(Names(), ", "))
}
