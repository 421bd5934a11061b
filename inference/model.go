package inference

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/singleflight"

	"github.com/caddy-infer/caddy-infer/inference/batch"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/internal/refpool"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/tokenizer"
)

// Model is one user's hold on a loaded model. Its methods are safe for
// concurrent use. A Predict that is under way when the last user releases the
// model still ends well: the weights go when it has returned.
type Model struct {
	ref      string
	shared   *refpool.Ref[modelKey, *core]
	released atomic.Bool
}

// Info describes a model.
type Info struct {
	// Ref is what it was asked for by: "builtin/NAME" or a directory.
	Ref string
	// Digest identifies its files: equal digests, equal answers.
	Digest       string
	Task         modeldir.Task
	Architecture string
	// Labels in the order of the network's outputs.
	Labels []string
	Engine engine.Info
	// MaxChars is the longest text that it takes, in code points.
	MaxChars int
	// AtOnce is how many windows of text its workers can have in hand.
	AtOnce int
}

// Urgency orders the requests that wait for a model, from 0 to 7: see package
// batch.
type Urgency = batch.Urgency

// Urgencies of RFC 9218.
const (
	MostUrgent     = batch.MostUrgent
	DefaultUrgency = batch.DefaultUrgency
	LeastUrgent    = batch.LeastUrgent
)

// Order says where among the waiting a call belongs: see package batch.
type Order = batch.Order

type orderKey struct{}

// WithOrder says where the calls of Predict with that context belong among
// those that wait. Without it they have DefaultUrgency.
func WithOrder(ctx context.Context, o Order) context.Context {
	return context.WithValue(ctx, orderKey{}, o)
}

func order(ctx context.Context) Order {
	if o, ok := ctx.Value(orderKey{}).(Order); ok {
		return o
	}
	return Order{Urgency: DefaultUrgency}
}

// core is what all users of a model share.
type core struct {
	ref     string // of the first to ask
	info    Info
	multi   bool
	text    *text
	tagger  *decode.Tagger // nil for text classification
	weights *refpool.Ref[weightsKey, engine.Engine]
	batcher *batch.Batcher[engine.Sequence, engine.Logits]
	cache   *cache
	checks  singleflight.Group
}

// load reads everything of a model into memory and starts its workers.
func load(dir *modeldir.Dir, digest string, o Options) (*core, error) {
	tok, err := tokenizer.Load(dir.FS)
	if err != nil {
		return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
	}
	c := &core{
		ref: dir.Name,
		info: Info{
			Digest: digest, Task: dir.Config.Task, Architecture: dir.Config.Architecture,
			Labels: dir.Config.Labels, MaxChars: o.MaxChars, AtOnce: o.Workers * o.BatchSize,
		},
		multi: dir.Config.MultiLabel,
		cache: newCache(o.CacheEntries, o.CacheBytes),
	}
	if c.text, err = newText(tok, dir.Config.Task, dir.Config.MaxTokens); err != nil {
		return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
	}
	if dir.Config.Task == modeldir.TokenClassification {
		if c.tagger, err = newTagger(dir); err != nil {
			return nil, fmt.Errorf("loading model %s: %w", dir.Name, err)
		}
	}
	if c.weights, err = acquireWeights(dir, digest, o); err != nil {
		return nil, err
	}
	c.info.Engine = c.weights.Value.Info()
	c.batcher = batch.New(batch.Options{
		Workers: o.Workers, Size: o.BatchSize, Wait: o.BatchWait,
		QueueLength: o.QueueLength, QueueWait: o.QueueWait,
	}, c.weights.Value.Run)
	return c, nil
}

func (c *core) close() error {
	c.batcher.Close()
	return c.weights.Release()
}

// Info describes the model.
func (m *Model) Info() Info {
	info := m.shared.Value.info
	info.Ref = m.ref
	return info
}

// Release ends this hold. The model is freed when nobody holds it any more and
// no Predict is under way.
func (m *Model) Release() error {
	if m.released.Swap(true) {
		return ErrReleased
	}
	return m.shared.Release()
}

// hold keeps the model alive during a call.
func (m *Model) hold() error {
	if m.released.Load() || m.shared.Retain() != nil {
		return ErrReleased
	}
	return nil
}

// Predict returns one Result for each text, in order. Texts must be valid
// UTF-8; long ones are cut into overlapping windows and joined again, so that
// nothing is truncated.
//
// Errors are a *TooLongError, an *OverloadedError, an *EngineError,
// ErrReleased, or the error of ctx.
func (m *Model) Predict(ctx context.Context, texts []string) ([]Result, Stats, error) {
	if err := m.hold(); err != nil {
		return nil, Stats{}, err
	}
	defer m.shared.Release() //nolint:errcheck // the last release's error has nobody to go to here
	c := m.shared.Value

	for i, t := range texts {
		// Counting is cheaper than tokenizing, but a byte bound is free.
		if len(t) > c.info.MaxChars {
			if n := utf8.RuneCountInString(t); n > c.info.MaxChars {
				return nil, Stats{}, &TooLongError{Index: i, Chars: n, Max: c.info.MaxChars}
			}
		}
	}

	if c.cache == nil {
		return c.predict(ctx, texts)
	}
	return c.predictCached(ctx, texts)
}

// predictCached runs the network only on those texts that the cache lacks.
func (c *core) predictCached(ctx context.Context, texts []string) ([]Result, Stats, error) {
	results := make([]Result, len(texts))
	var missing []string
	var at []int
	for i, t := range texts {
		r, ok := c.cache.get(t)
		if !ok {
			missing, at = append(missing, t), append(at, i)
			continue
		}
		results[i] = r
	}
	stats := Stats{Digest: c.info.Digest}
	if len(missing) > 0 {
		var computed []Result
		var err error
		if computed, stats, err = c.predict(ctx, missing); err != nil {
			return nil, stats, err
		}
		for i, r := range computed {
			results[at[i]] = r
			c.cache.put(r)
		}
	}
	stats.Cached, stats.Missed = len(texts)-len(missing), len(missing)
	return results, stats, nil
}

func (c *core) predict(ctx context.Context, texts []string) ([]Result, Stats, error) {
	begin := time.Now()
	inputs, sequences := c.text.encode(texts)
	stats := Stats{Tokenize: time.Since(begin), Windows: len(sequences), Digest: c.info.Digest}
	for _, s := range sequences {
		stats.Tokens += len(s.IDs)
	}

	logits, batchStats, err := c.batcher.DoIn(ctx, order(ctx), sequences)
	stats.Queue, stats.Run, stats.BatchSize = batchStats.Queue, batchStats.Run, batchStats.BatchSize
	if err != nil {
		return nil, stats, engineError(ctx, err)
	}

	begin = time.Now()
	results, err := c.decode(texts, inputs, logits)
	stats.Decode = time.Since(begin)
	if err != nil {
		return nil, stats, &EngineError{err}
	}
	return results, stats, nil
}

// engineError tells failures of the engine from those of the request.
func engineError(ctx context.Context, err error) error {
	var overloaded *OverloadedError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &overloaded):
		return err
	case errors.Is(err, batch.ErrClosed):
		return ErrReleased
	default:
		return &EngineError{err}
	}
}

// checkText is what Check asks the model: short, and with every kind of
// character that a Chinese model should know.
const checkText = "马云在杭州发表演讲, 2024年。"

// Check runs a real forward pass, beside the queue, so that an overloaded
// model is not mistaken for a broken one. Checks that come together share one
// pass. A model whose answer has no number in it (NaN) is broken too.
func (m *Model) Check(ctx context.Context) error {
	if err := m.hold(); err != nil {
		return err
	}
	c := m.shared.Value
	done := c.checks.DoChan("", func() (_ any, err error) {
		defer func() {
			if v := recover(); v != nil {
				err = &EngineError{fmt.Errorf("panic: %v", v)}
			}
		}()
		return nil, c.check()
	})
	// The pass goes on when ctx ends first: it must keep the model alive.
	result := make(chan error, 1)
	go func() {
		r := <-done
		_ = m.shared.Release()
		result <- r.Err
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *core) check() error {
	_, sequences := c.text.encode([]string{checkText})
	logits, err := c.weights.Value.Run(context.Background(), sequences)
	if err != nil {
		return &EngineError{err}
	}
	if len(logits) != len(sequences) {
		return &EngineError{fmt.Errorf("got %d results for %d windows", len(logits), len(sequences))}
	}
	for _, l := range logits {
		for _, v := range l.Data {
			if v != v {
				return &EngineError{errors.New("the network's output is not a number")}
			}
		}
	}
	return nil
}
