// Package inference turns text into labels: named entities or classes. It
// joins a model directory, a tokenizer, an engine and a decoder into a Model
// that answers concurrent requests in batches.
//
//	model, err := inference.Acquire("builtin/ner-zh", inference.Options{})
//	if err != nil { … }
//	defer model.Release()
//	results, _, err := model.Predict(ctx, []string{"马云在杭州发表演讲。"})
//
// The same model asked for twice is in memory once: weights are shared by
// everyone who names files of the same content for the same engine, and the
// queue by everyone who also names the same Options.
package inference

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/builtin"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	_ "github.com/caddy-infer/caddy-infer/inference/goengine" // the default engine
	"github.com/caddy-infer/caddy-infer/inference/internal/refpool"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// builtinPrefix marks the models that are embedded in the binary.
const builtinPrefix = "builtin/"

// weightsKey identifies loaded weights: the files' content and all that an
// engine may do differently with them.
type weightsKey struct {
	digest, engine string
	options        engine.Options
}

// modelKey identifies a model with its queue.
type modelKey struct {
	digest  string
	options Options
}

var (
	weights refpool.Pool[weightsKey, engine.Engine]
	models  refpool.Pool[modelKey, *core]
)

// Acquire returns the model that ref names, "builtin/NAME" or a directory,
// with one more user. Each Acquire needs one Release.
func Acquire(ref string, o Options) (*Model, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("model %s: %w", ref, err)
	}
	o = o.withDefaults()
	dir, err := open(ref)
	if err != nil {
		return nil, err
	}
	digest, err := dir.Digest()
	if err != nil {
		return nil, err
	}
	shared, err := models.Acquire(modelKey{digest, o},
		func() (*core, error) { return load(dir, digest, o) },
		(*core).close)
	if err != nil {
		return nil, err
	}
	return &Model{ref: ref, shared: shared}, nil
}

func open(ref string) (*modeldir.Dir, error) {
	name, embedded := strings.CutPrefix(ref, builtinPrefix)
	if !embedded {
		return modeldir.Open(ref)
	}
	fsys, ok := builtin.Open(name)
	if !ok {
		return nil, fmt.Errorf("model %s: there is no such built-in model; there are %s%s",
			ref, builtinPrefix, strings.Join(builtin.Names(), ", "+builtinPrefix))
	}
	return modeldir.OpenFS(ref, fsys)
}

// acquireWeights shares the engine that holds the weights of dir.
func acquireWeights(dir *modeldir.Dir, digest string, o Options) (*refpool.Ref[weightsKey, engine.Engine], error) {
	opts := engine.Options{Precision: o.Precision, Threads: o.Threads, Library: o.Library, Device: o.Device}
	return weights.Acquire(weightsKey{digest, o.Engine, opts},
		func() (engine.Engine, error) { return engine.Open(o.Engine, dir, opts) },
		engine.Engine.Close)
}

// Usage is a loaded model and the number of those who hold it.
type Usage struct {
	Digest string
	Engine engine.Info
	// Users of the weights: models with different Options count as one each.
	Users int
}

// Loaded lists the weights that are in memory.
func Loaded() []Usage {
	var list []Usage
	weights.Each(func(key weightsKey, e engine.Engine, users int) {
		list = append(list, Usage{Digest: key.digest, Engine: e.Info(), Users: users})
	})
	return list
}

// Load is how busy a loaded model is.
type Load struct {
	// Ref is what the model was first asked for by, Digest identifies its files.
	Ref, Digest string
	// InFlight are the calls of Predict that are under way, Queued those of
	// them that wait for a worker.
	InFlight, Queued int
}

// Loads tells how busy each model of this process is, in the order of their
// names. A model that is in use with different Options has an entry for each.
func Loads() []Load {
	var list []Load
	models.Each(func(key modelKey, c *core, _ int) {
		l := c.batcher.Load()
		list = append(list, Load{Ref: c.ref, Digest: key.digest, InFlight: l.InFlight, Queued: l.Queued})
	})
	slices.SortFunc(list, func(a, b Load) int { return strings.Compare(a.Ref, b.Ref) })
	return list
}

// Digest identifies the model that ref names, without loading it.
func Digest(ref string) (string, error) {
	dir, err := open(ref)
	if err != nil {
		return "", err
	}
	return dir.Digest()
}
