//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"text/template"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
	"github.com/caddy-infer/caddy-infer/internal/steady"
)

//go:embed Caddyfile
var caddyfile string

// A node takes 20 ms and two requests at a time.
const service = 20 * time.Millisecond

// world is a gateway, its nodes, and what has happened to them.
type world struct {
	options *options
	nodes   []*simnode.Process
	gateway *gateway.Gateway
	places  gateway.Places

	// The configuration that is loaded: variant is one of several that differ
	// in options, missing are nodes that it lacks.
	variant int
	missing map[int]bool
	drained map[int]int // picks of drained nodes when they were drained

	counts     map[kind]int
	violations []string
}

func newWorld(o *options, b gateway.Binaries) (w *world, err error) {
	w = &world{options: o, missing: make(map[int]bool), drained: make(map[int]int), counts: make(map[kind]int)}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	for i := range o.nodes {
		n, err := simnode.Spawn(b.Node, fmt.Sprintf("-name=n%d", i), fmt.Sprintf("-service=%v", service),
			"-sigma=0.25", fmt.Sprintf("-seed=%d", o.seed+uint64(i))) //nolint:gosec // small
		if err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, n)
	}
	if w.places, err = gateway.Reserve(); err != nil {
		return nil, err
	}
	config, err := w.config()
	if err != nil {
		return nil, err
	}
	w.gateway, err = gateway.Caddy(w.places, b.Caddy, config)
	return w, err
}

func (w *world) stop() {
	if w.gateway != nil {
		w.gateway.Stop()
	}
	for _, n := range w.nodes {
		_ = n.Kill()
	}
}

// config writes the configuration as it should be now.
func (w *world) config() (string, error) {
	t, err := template.New("Caddyfile").Parse(caddyfile)
	if err != nil {
		return "", err
	}
	data := struct {
		gateway.Places
		Nodes   []string
		Variant int
	}{Places: w.places, Variant: w.variant}
	for i, n := range w.nodes {
		if !w.missing[i] {
			data.Nodes = append(data.Nodes, n.Address)
		}
	}
	var text strings.Builder
	err = t.Execute(&text, data)
	return text.String(), err
}

// play lets the events happen, one after the other.
func (w *world) play(ctx context.Context, begin time.Time, events []event) error {
	for _, e := range events {
		select {
		case <-time.After(time.Until(begin.Add(e.at))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if w.options.verbose {
			fmt.Fprintf(os.Stderr, "%7.2fs (planned %.2f) %s node %d end %v number %d\n", time.Since(begin).Seconds(), e.at.Seconds(), e.kind, e.node, e.end, e.number)
		}
		if err := w.happen(e); err != nil {
			return fmt.Errorf("at %v, %s of node %d: %w", e.at, e.kind, e.node, err)
		}
		if !e.end {
			w.counts[e.kind]++
		}
	}
	return nil
}

func (w *world) happen(e event) error {
	n := w.nodes[e.node]
	settings := map[kind]string{
		hang: `{"mode":"hang"}`, fail: `{"mode":"fail"}`, refuse: `{"mode":"refuse"}`,
		slow: `{"slowdown":5}`, coTenant: `{"co_tenant":0.85}`,
	}
	switch {
	case e.kind == kill && e.end:
		return n.Start("-cold=3s")
	case e.kind == kill:
		return n.Kill()
	case e.kind == drain && e.end:
		return w.resume(e.node)
	case e.kind == drain:
		v, err := w.order(http.MethodPost, n.Address+"/drain", "")
		w.drained[e.node] = v.picks()
		return err
	case e.kind == weight:
		_, err := w.order(http.MethodPut, n.Address+"/weight", fmt.Sprintf("%.1f", 0.5+float64(e.number%30)/10))
		return err
	case e.kind == without:
		w.missing[e.node] = !e.end
		return w.load()
	case e.kind == change:
		w.variant = e.number % 4
		return w.load()
	case e.kind == reload:
		return w.load()
	case e.end:
		_, err := n.Set(`{"mode":"ok","slowdown":1,"co_tenant":0}`)
		return err
	}
	_, err := n.Set(settings[e.kind])
	return err
}

func (w *world) load() error {
	config, err := w.config()
	if err != nil {
		return err
	}
	return w.gateway.Load(config)
}

// resume puts a node back and looks whether it was left alone meanwhile.
func (w *world) resume(node int) error {
	address := w.nodes[node].Address
	before, err := w.order(http.MethodGet, address, "")
	if err != nil {
		return err
	}
	if more := before.picks() - w.drained[node]; more != 0 {
		w.violations = append(w.violations, fmt.Sprintf("a drained node got %d requests", more))
	}
	_, err = w.order(http.MethodPost, address+"/resume", "")
	return err
}

// view is what the admin endpoint tells of a node.
type view struct {
	Address  string         `json:"address"`
	State    string         `json:"state"`
	InFlight int            `json:"in_flight"`
	Limit    int            `json:"limit"` // 0 for none
	Picks    map[string]int `json:"picks"`
}

func (v view) picks() (sum int) {
	for _, n := range v.Picks {
		sum += n
	}
	return sum
}

func (w *world) order(method, path, body string) (v view, err error) {
	answer, err := w.gateway.Call(method, "/gpu/nodes/"+path, body)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal(answer, &v)
}

// rest waits until the gateway has come to rest after the load, and tells what
// it has not let go of. What it holds then is measured. Connections of a replaced
// configuration that were in use just then are kept for as long as idle ones.
func (w *world) rest(ctx context.Context, after *steady.Sample, idle steady.Sample) (violations []string) {
	var last []string
	for deadline := time.Now().Add(time.Minute); ; {
		*after, last = w.held(idle)
		if len(last) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second)
	}
	if strings.Contains(w.gateway.Log(), "panic") {
		last = append(last, "the gateway's log speaks of a panic")
	}
	return last
}

// held tells what the gateway holds though nothing is under way. A reload closes
// the connections that it keeps to nodes.
func (w *world) held(idle steady.Sample) (now steady.Sample, what []string) {
	complain := func(format string, args ...any) { what = append(what, fmt.Sprintf(format, args...)) }
	err := w.load()
	if err == nil {
		now, err = steady.Measure(w.gateway)
	}
	if err != nil {
		return now, []string{err.Error()}
	}
	for i, n := range w.nodes {
		v, err := w.order(http.MethodGet, n.Address, "")
		s, err2 := n.State()
		switch {
		case errors.Join(err, err2) != nil:
			complain("node %d: %v", i, errors.Join(err, err2))
		case v.InFlight != 0:
			complain("the gateway counts %d requests at node %d after the last", v.InFlight, i)
		case s.InFlight != 0:
			complain("node %d has %d requests after the last", i, s.InFlight)
		}
	}
	if more := now.Goroutines - idle.Goroutines; more > 20 {
		complain("%d goroutines more than before the load", more)
	}
	if more := now.Files - idle.Files; more > 10 {
		complain("%d file descriptors more than before the load", more)
	}
	return now, what
}
