// Package inferhandler brings the models of package inference to Caddy: the
// `inference` app that names them, the http.handlers.inference handler that
// answers requests with them, and the `caddy infer` commands.
package inferhandler

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/builtin"
	"github.com/caddy-infer/caddy-infer/inference/engine"
)

func init() { caddy.RegisterModule(new(App)) }

// App names the models of this process. Handlers refer to a model by its name,
// so that its options stand in one place and several handlers share it.
//
// A model is in memory once however many names, handlers and configurations
// use it, and a reload that keeps a model's files and options keeps the loaded
// model. Caddy's admin endpoint can let other files answer under a name while it
// is in use; see the module admin.api.inference.
type App struct {
	// Models by name.
	Models map[string]*Model `json:"models,omitempty"`

	// held are the models acquired by this instance and by nobody else:
	// Cleanup also runs after a Provision that failed half way.
	held []model
}

// Model is a model directory and how to run it. Whatever is left out has the
// default that it has in the Caddyfile.
type Model struct {
	// Ref is what to load: `builtin/ner-zh`, `builtin/sentiment-zh`, or a
	// directory in Hugging Face or ModelScope layout.
	Ref string `json:"ref,omitempty"`

	// Engine that computes the network: `go` (default), or `onnxruntime` in a
	// binary that was built with it.
	Engine string `json:"engine,omitempty"`

	// Precision of the weights: `fp32` or `int8`. Default: what the model's
	// files are best run in, which for the engine `go` is `fp32`; with `int8`
	// it quantises model.safetensors itself, and keeps the result beside it
	// in model.int8.cache where it can.
	Precision engine.Precision `json:"precision,omitempty"`

	// Library is the path of the engine's native library, where it needs one.
	// Default: the engine looks for it.
	Library string `json:"library,omitempty"`

	// Device that computes the network: `cpu` (default), or `cuda` or `cuda:N`,
	// the first or the N-th of Nvidia's GPUs counted from 0, with the engine
	// `onnxruntime` and a library of ONNX Runtime that has CUDA.
	Device engine.Device `json:"device,omitempty"`

	// Workers is the number of forward passes at the same time. Default: one
	// for each CPU that Go may use.
	Workers int `json:"workers,omitempty"`

	// Threads used inside one forward pass. Default: the engine's choice; "go"
	// gives a pass that is alone all CPUs, and one to each under load.
	Threads int `json:"threads,omitempty"`

	// BatchSize is the most windows of text in one forward pass. Default: 32.
	BatchSize int `json:"batch_size,omitempty"`

	// BatchWait is how long a window of text may wait for company. Default:
	// 2ms.
	BatchWait caddy.Duration `json:"batch_wait,omitempty"`

	// QueueLength is how many windows of text may wait for a worker; requests
	// beyond it are answered 503 with Retry-After. Default: 512.
	QueueLength int `json:"queue_length,omitempty"`

	// QueueWait is how long a request may wait for a worker before it is
	// answered 503 with Retry-After. Default: 2s.
	QueueWait caddy.Duration `json:"queue_wait,omitempty"`

	// MaxChars is the longest text in characters (Unicode code points); longer
	// ones are answered 413, never truncated. Default: 10000.
	MaxChars int `json:"max_chars,omitempty"`

	// Cache is how many texts' results are kept for when the same text comes
	// again. They are kept in memory, with the text, and go with the loaded
	// model. Default: 0, none.
	Cache int `json:"cache,omitempty"`

	// CacheBytes is the most memory that kept results may take, in bytes.
	// Default: 64 MiB.
	CacheBytes int64 `json:"cache_bytes,omitempty"`
}

// options are the model's options as package inference takes them.
func (m *Model) options() inference.Options {
	return inference.Options{
		Engine:      m.Engine,
		Precision:   m.Precision,
		Library:     m.Library,
		Device:      m.Device,
		Workers:     m.Workers,
		Threads:     m.Threads,
		BatchSize:   m.BatchSize,
		BatchWait:   timeDuration(m.BatchWait),
		QueueLength: m.QueueLength,
		QueueWait:   timeDuration(m.QueueWait),
		MaxChars:    m.MaxChars,

		CacheEntries: m.Cache,
		CacheBytes:   m.CacheBytes,
	}
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "inference",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision loads every model, so that a missing file stops the configuration
// instead of the first request.
func (a *App) Provision(ctx caddy.Context) error {
	for _, name := range slices.Sorted(maps.Keys(a.Models)) {
		if name == "" {
			return errors.New("an inference model has an empty name")
		}
		m := a.Models[name]
		if m == nil || m.Ref == "" {
			return fmt.Errorf("inference model %q: ref is missing: give %s or a model directory", name, builtinRefs())
		}
		if err := m.options().Validate(); err != nil {
			return fmt.Errorf("inference model %q: %w", name, err)
		}
		loaded, err := serve(name, m.Ref, m.options())
		if err != nil {
			return fmt.Errorf("loading inference model %q: %w", name, err)
		}
		a.held = append(a.held, loaded)
		logReady(ctx.Logger(), name, loaded.Info())
	}
	return nil
}

func logReady(logger *zap.Logger, name string, info inference.Info) {
	logger.Info("model ready",
		zap.String("model", name),
		zap.String("ref", info.Ref),
		zap.String("digest", info.Digest),
		zap.String("task", string(info.Task)),
		zap.Strings("labels", info.Labels),
		zap.String("engine", info.Engine.Engine),
		zap.String("engine_version", info.Engine.Version),
		zap.String("precision", string(info.Engine.Precision)),
		zap.String("device", string(info.Engine.Device)),
		zap.Int64("weight_bytes", info.Engine.WeightBytes))
	if info.Engine.Warning != "" {
		logger.Warn(info.Engine.Warning, zap.String("model", name))
	}
}

// Start does nothing: the models are ready since Provision.
func (a *App) Start() error { return nil }

// Stop does nothing: requests may still run until Cleanup, and after it.
func (a *App) Stop() error { return nil }

// Cleanup gives the models back. Those that the next configuration uses too
// stay in memory.
func (a *App) Cleanup() error {
	errs := make([]error, len(a.held))
	for i, m := range a.held {
		errs[i] = m.Release()
	}
	a.held = nil
	return errors.Join(errs...)
}

// resolve finds what a handler's configuration means: a name of this app or,
// failing that, a built-in model or a directory, run with default options.
func (a *App) resolve(nameOrRef string) (string, inference.Options, error) {
	if m, ok := a.Models[nameOrRef]; ok {
		return m.Ref, m.options(), nil
	}
	if strings.ContainsAny(nameOrRef, `/\`) || isDirectory(nameOrRef) {
		return nameOrRef, inference.Options{}, nil
	}
	known := "the inference option names no model"
	if len(a.Models) > 0 {
		known = "the inference option names " + strings.Join(slices.Sorted(maps.Keys(a.Models)), ", ")
	}
	return "", inference.Options{}, fmt.Errorf(
		"unknown model %q: %s; name it there with `model %[1]s REF`, or use %[3]s or a model directory",
		nameOrRef, known, builtinRefs())
}

// Digest identifies the configured files of a model by its name in this app, or
// else by its reference, as handlers find it.
func (a *App) Digest(nameOrRef string) (string, error) {
	ref, _, err := a.resolve(nameOrRef)
	if err != nil {
		return "", err
	}
	return inference.Digest(ref)
}

// Acquire returns the model of that name or reference, as handlers find it, for
// another module of the same configuration, which releases it in its Cleanup.
// again opens it once more, for what is still under way after that.
func (a *App) Acquire(nameOrRef string) (m *inference.Served, again func() (*inference.Served, error), err error) {
	ref, opts, err := a.resolve(nameOrRef)
	if err != nil {
		return nil, nil, err
	}
	again = func() (*inference.Served, error) { return inference.Serve(nameOrRef, ref, opts) }
	m, err = again()
	return m, again, err
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// builtinRefs lists the references of the embedded models, for messages.
func builtinRefs() string {
	names := builtin.Names()
	for i, name := range names {
		names[i] = "builtin/" + name
	}
	return strings.Join(names, ", ")
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
