package inference

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// Options say how a model is run. The zero value of each field means its
// default.
type Options struct {
	// Engine that computes the network: "go" (default), or "onnxruntime" in a
	// binary that was built with it.
	Engine string
	// Precision of the weights; empty means the engine's choice for the files
	// that are there.
	Precision engine.Precision
	// Library is the path of the engine's native library; empty means that
	// the engine looks for it.
	Library string
	// Device that computes the network: "cpu" (default), or "cuda" or "cuda:N"
	// where the engine can.
	Device engine.Device
	// Workers is the number of forward passes at the same time. Default: one
	// for each CPU that Go may use.
	Workers int
	// Threads used inside one forward pass. 0, the default, leaves it to the
	// engine: "go" gives a pass that is alone all CPUs, and one to each when
	// there are as many passes; "onnxruntime" takes one.
	Threads int
	// BatchSize is the most windows of text in one forward pass. Default 32.
	BatchSize int
	// BatchWait is how long a window may wait for company while a worker is
	// free. Default 2 ms.
	BatchWait time.Duration
	// QueueLength is how many windows of text may wait. Default 512.
	QueueLength int
	// QueueWait is how long a request may wait before it starts. Default 2 s.
	QueueWait time.Duration
	// MaxChars is the longest text, in code points. Default 10000.
	MaxChars int
	// CacheEntries is how many texts' results are kept for when a text comes
	// again. 0, the default, keeps none.
	CacheEntries int
	// CacheBytes is the most memory that kept results may take, in bytes.
	// Default 64 MiB.
	CacheBytes int64
}

// The defaults of Options.
const (
	DefaultEngine      = "go"
	DefaultBatchSize   = 32
	DefaultBatchWait   = 2 * time.Millisecond
	DefaultQueueLength = 512
	DefaultQueueWait   = 2 * time.Second
	DefaultMaxChars    = 10000
	DefaultCacheBytes  = 64 << 20
)

// Upper bounds of Options: beyond them a number is a typing mistake.
const (
	maxWorkers  = 1024
	maxThreads  = 1024
	maxBatch    = 4096
	maxQueue    = 1_000_000
	maxMaxChars = 10_000_000
	maxWait     = time.Hour
	maxCache    = 100_000_000
	maxCacheMem = 1 << 40
)

// withDefaults fills the fields that are zero.
func (o Options) withDefaults() Options {
	if o.Engine == "" {
		o.Engine = DefaultEngine
	}
	setDefault(&o.Workers, runtime.GOMAXPROCS(0))
	setDefault(&o.BatchSize, DefaultBatchSize)
	setDefault(&o.BatchWait, DefaultBatchWait)
	setDefault(&o.QueueLength, DefaultQueueLength)
	setDefault(&o.QueueWait, DefaultQueueWait)
	setDefault(&o.MaxChars, DefaultMaxChars)
	setDefault(&o.CacheBytes, DefaultCacheBytes)
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate says which option is out of range.
func (o Options) Validate() error {
	switch o.Precision {
	case "", engine.FP32, engine.INT8:
	default:
		return fmt.Errorf("precision %q: use fp32 or int8", o.Precision)
	}
	return errors.Join(
		o.Device.Validate(),
		inRange("workers", o.Workers, maxWorkers),
		inRange("threads", o.Threads, maxThreads),
		inRange("batch size", o.BatchSize, maxBatch),
		inRange("batch wait", o.BatchWait, maxWait),
		inRange("queue length", o.QueueLength, maxQueue),
		inRange("queue wait", o.QueueWait, maxWait),
		inRange("max_chars", o.MaxChars, maxMaxChars),
		inRange("cache entries", o.CacheEntries, maxCache),
		inRange("cache bytes", o.CacheBytes, maxCacheMem),
	)
}

func inRange[T int | int64 | time.Duration](name string, value, most T) error {
	if value < 0 || value > most {
		return fmt.Errorf("%s %v: must be between 0 (the default) and %v", name, value, most)
	}
	return nil
}
