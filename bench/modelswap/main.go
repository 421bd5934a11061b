//go:build linux

// Command modelswap changes the model of a running server again and again while
// clients keep it saturated. Two models find the same entities and call them by
// different names, so that each answer tells which model gave it; what they find
// in each text is known beforehand. It prints how many answers there were and
// how long they took, and fails if one is missing, is not of its text, or is not
// of the model that its header names; if orders were not obeyed; or if memory,
// goroutines or file descriptors grow.
//
//	go run ./bench/modelswap -duration 10m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/steady"
)

type options struct {
	duration time.Duration
	clients  int
	texts    int
	cache    int
	pause    time.Duration
	seed     uint64
	save     string
	caddy    string
}

func main() {
	var o options
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long the load lasts")
	flag.IntVar(&o.clients, "clients", 16, "requests under way at a time")
	flag.IntVar(&o.texts, "texts", 5000, "how many different texts there are")
	flag.IntVar(&o.cache, "cache", 1000, "how many results the server keeps")
	flag.DurationVar(&o.pause, "pause", 250*time.Millisecond, "time between two orders")
	flag.Uint64Var(&o.seed, "seed", 1, "seed of texts and orders")
	flag.StringVar(&o.save, "save", "", "also write the report to this file")
	flag.StringVar(&o.caddy, "caddy", "", "another binary than one built from this tree")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "modelswap:", err)
		os.Exit(1)
	}
}

// errViolated means that the report names something that must not happen.
var errViolated = errors.New("something happened that must not: see the report")

func run(ctx context.Context, o *options, out io.Writer) error {
	if o.duration < 5*time.Second || o.clients < 1 || o.texts < 1 {
		return errors.New("want -duration 5s or more, and at least one client and one text")
	}
	dir, err := os.MkdirTemp("", "modelswap")
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
	m, err := writeModels(dir)
	if err != nil {
		return err
	}
	pool, err := newPool(ctx, m.first, o.texts, o.seed)
	if err != nil {
		return err
	}
	r, err := swap(ctx, o, binaries, m, pool)
	if err != nil {
		return err
	}
	text := r.String()
	fmt.Fprint(out, text)
	if o.save != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(o.save), 0o750), os.WriteFile(o.save, []byte(text), 0o600)); err != nil {
			return err
		}
	}
	if len(r.violations) > 0 {
		return errViolated
	}
	return nil
}

// swap is one run: a server, its clients, and the orders.
func swap(ctx context.Context, o *options, b gateway.Binaries, m models, pool *pool) (*report, error) {
	places, err := gateway.Reserve()
	if err != nil {
		return nil, err
	}
	g, err := gateway.Caddy(places, b.Caddy, caddyfile(places, m.first, o.cache))
	if err != nil {
		return nil, err
	}
	defer g.Stop()
	idle, err := steady.Measure(g)
	if err != nil {
		return nil, err
	}
	r := &report{options: o, idle: idle}
	loaded, done := context.WithTimeout(ctx, o.duration)
	defer done()
	begin := time.Now()
	samples := make(chan []steady.Sample, 1)
	go func() { samples <- steady.Watch(loaded, g, begin, nil) }()
	orders := make(chan orders, 1)
	go func() { orders <- give(loaded, o, g, m) }()
	r.load = ask(loaded, g.URL("/predict"), o.clients, pool, m, o.seed)
	r.took = time.Since(begin)
	r.orders, r.samples = <-orders, <-samples
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	for range 3 { // what is pooled is kept for two collections, and connections end
		time.Sleep(time.Second)
		if r.after, err = steady.Measure(g); err != nil {
			return nil, err
		}
	}
	if strings.Contains(g.Log(), "panic") {
		r.violations = append(r.violations, "the server's log speaks of a panic")
	}
	r.judge()
	return r, nil
}

func caddyfile(p gateway.Places, dir string, cache int) string {
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	servers {
		listener_wrappers {
			handover
		}
	}
	inference {
		model ner %s {
			cache %d
		}
	}
}

http://%s {
	inference ner
}
`, p.Admin, dir, max(1, cache), p.Addr)
}

// digest identifies a model as the server's header does.
func digest(dir string) (string, error) { return inference.Digest(dir) }
