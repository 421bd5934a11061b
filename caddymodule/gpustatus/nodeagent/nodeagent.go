// Package nodeagent watches the node that it runs on: its GPUs, its host, its
// model server and the models of this process. Everything is read in the
// background; Latest is at once. It knows nothing of Caddy.
package nodeagent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// Options say what an agent watches. Equal options make equal agents.
type Options struct {
	// Telemetry are the sources of GPU and server telemetry. Without any, this
	// host's GPUs are read by NVML, else by nvidia-smi, unless NoGPU is set.
	Telemetry []gpuprobe.Config
	NoGPU     bool
	// Interval is the pause between readings.
	Interval time.Duration
	// API and WebUI are URLs that are asked for the node's health; an empty one
	// is not.
	API, WebUI string
	// Timeout bounds one such question.
	Timeout time.Duration
	// MemoryLimit is the used share of GPU memory above which the node is not
	// healthy; 0 means none.
	MemoryLimit float64
	// ShedAt is the GPU utilisation above which Weight falls.
	ShedAt float64
	// Model names a model, Digest identifies it: of the models of this process
	// only the one with this digest counts. ModelPath is the directory of a
	// model that another process serves.
	Model, Digest, ModelPath string
	// DrainFile drains the node while a file of that name exists.
	DrainFile string
	// Push are the URLs to which the node's report is posted.
	Push []string
}

// Agent watches the node until Close.
type Agent struct {
	opts   Options
	latest atomic.Pointer[State]
	cancel context.CancelFunc
	work   sync.WaitGroup
	dirty  chan struct{} // something new has been read

	sources    *sources
	api, webui *health // nil where there is no URL
	host       host
	digest     *digest // nil without ModelPath
	weight     weight
}

// New starts an agent. logf is told of what operators should know, at changes
// only.
func New(o Options, logf func(format string, args ...any)) (*Agent, error) {
	sources, err := openSources(o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agent{
		opts: o, cancel: cancel, dirty: make(chan struct{}, 1),
		sources: sources, weight: weight{shedAt: o.ShedAt},
	}
	sources.start(a.changed)
	a.api = a.watchHealth(ctx, o.API)
	a.webui = a.watchHealth(ctx, o.WebUI)
	if o.ModelPath != "" {
		a.digest = &digest{path: o.ModelPath}
		a.work.Go(func() { a.digest.keep(ctx, a.changed) })
	}
	// Whoever asks at once hears what has not been asked yet, and not that all is
	// well.
	a.latest.Store(a.state(time.Now()))
	for _, url := range o.Push {
		p := newPusher(url, o.Interval, logf)
		a.work.Go(func() { p.run(ctx, func() *State { return a.Latest() }) })
	}
	a.work.Go(func() { a.run(ctx) })
	return a, nil
}

// Latest returns what is known of the node, at once.
func (a *Agent) Latest() *State { return a.latest.Load() }

// Close ends the agent and waits until nothing of it runs any more.
func (a *Agent) Close() error {
	a.cancel()
	a.work.Wait()
	a.sources.close()
	return nil
}

// changed asks for a new state soon.
func (a *Agent) changed() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

func (a *Agent) watchHealth(ctx context.Context, url string) *health {
	if url == "" {
		return nil
	}
	h := newHealth(url, a.opts.Timeout)
	a.work.Go(func() { h.run(ctx, a.opts.Interval, a.changed) })
	return h
}

func (a *Agent) run(ctx context.Context) {
	ticker := time.NewTicker(a.opts.Interval)
	defer ticker.Stop()
	a.host.measure(ctx)
	for {
		a.latest.Store(a.state(time.Now()))
		select {
		case <-ticker.C:
			a.host.measure(ctx)
		case <-a.dirty:
		case <-ctx.Done():
			return
		}
	}
}
