//go:build linux

// Command soak runs the gateway for minutes while everything goes wrong that
// must not matter: nodes are killed, hang, fail, refuse, slow down, share their
// GPU and are drained, weights change, configurations are reloaded. Load goes
// on in an open loop, and each answer is compared with its request. It prints
// what was lost, how long answers took, and whether memory, goroutines and file
// descriptors stayed flat, and fails if anything is not as it should be.
//
//	go run ./bench/soak -duration 10m
//	go run ./bench/soak -duration 10m -seed 7    # the same events and arrivals again
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
	"github.com/caddy-infer/caddy-infer/internal/steady"
)

type options struct {
	duration time.Duration
	seed     uint64
	rate     float64
	nodes    int
	out      int
	attempts int
	quiet    time.Duration
	save     string
	caddy    string
	verbose  bool
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long the load lasts")
	flag.Uint64Var(&o.seed, "seed", 0, "seed of events, arrivals and service times (default a random one, which is printed)")
	flag.Float64Var(&o.rate, "rate", 120, "requests per second; a node can answer 100")
	flag.IntVar(&o.nodes, "nodes", 5, "how many nodes there are")
	flag.IntVar(&o.out, "out", 2, "how many of them may be in trouble at a time")
	flag.IntVar(&o.attempts, "attempts", 1, "how often a run is made at the most, if it fails and was disturbed")
	flag.DurationVar(&o.quiet, "quiet", 50*time.Millisecond, "a run is disturbed if the 99th percentile of how late requests were sent is above this")
	flag.StringVar(&o.save, "save", "", "also write the report to this file")
	flag.StringVar(&o.caddy, "caddy", "", "another binary than one built from this tree")
	flag.BoolVar(&o.verbose, "v", false, "tell of each event")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// errViolated means that the report names something that must not happen.
var errViolated = errors.New("something happened that must not: see the report")

func run(ctx context.Context, o *options, out io.Writer) error {
	switch {
	case o.out < 0 || o.nodes < 2 || o.out >= o.nodes:
		return fmt.Errorf("-nodes %d -out %d: at least one node has to be well", o.nodes, o.out)
	case o.duration < 10*time.Second:
		return errors.New("-duration: want at least 10s")
	}
	if o.seed == 0 {
		o.seed = 1 + rand.Uint64N(1e6)
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binaries, err := gateway.Build(ctx, dir)
	if err != nil {
		return err
	}
	if o.caddy != "" {
		binaries.Caddy = o.caddy
	}
	fmt.Fprintf(os.Stderr, "go run ./bench/soak -duration %v -seed %d -rate %v -nodes %d -out %d\n", o.duration, o.seed, o.rate, o.nodes, o.out)
	var report *report
	var text string
	for attempt := 1; ; attempt++ {
		if report, err = soak(ctx, o, binaries); err != nil {
			return err
		}
		text = report.String()
		fmt.Fprint(out, text)
		late := report.result.Lateness(99)
		if len(report.violations) == 0 || late <= o.quiet || attempt >= o.attempts {
			break
		}
		fmt.Fprintf(out, "\nRepeated, for requests were sent up to %v late.\n\n", late.Round(time.Millisecond))
	}
	if o.save != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(o.save), 0o750), os.WriteFile(o.save, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	if len(report.violations) > 0 {
		return errViolated
	}
	return nil
}

// settle is how long the gateway has to know its nodes before the load begins.
const settle = 2 * time.Second

func soak(ctx context.Context, o *options, b gateway.Binaries) (*report, error) {
	w, err := newWorld(o, b)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	idle, err := steady.Measure(w.gateway)
	if err != nil {
		return nil, err
	}

	loaded, done := context.WithCancel(ctx)
	defer done()
	begin := time.Now()
	samples := make(chan []steady.Sample, 1)
	var each func([]steady.Sample)
	if o.verbose {
		each = func(samples []steady.Sample) { w.tell(begin, samples) }
	}
	go func() { samples <- steady.Watch(loaded, w.gateway, begin, each) }()
	events := make(chan error, 1)
	go func() {
		err := w.play(loaded, begin, plan(o))
		if err != nil {
			done()
		}
		events <- err
	}()
	result := openloop.Run(loaded, openloop.Config{
		URL: w.gateway.URL("/predict"), NodeHeader: simnode.NodeHeader, Timeout: time.Minute, Begin: begin,
	}, openloop.Poisson(o.seed, openloop.Phase{For: o.duration, Rate: o.rate}))
	if err := errors.Join(<-events, context.Cause(ctx)); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, w.gateway.Log())
	}
	done()
	r := &report{options: o, result: result, samples: <-samples, counts: w.counts, idle: idle}
	r.violations = append(w.violations, w.rest(ctx, &r.after, idle)...)
	r.judge()
	return r, nil
}
