//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/steady"
)

// tell prints what the gateway thinks of its nodes, and what it holds.
func (w *world) tell(begin time.Time, samples []steady.Sample) {
	answer, err := w.gateway.Call(http.MethodGet, "/gpu/nodes", "")
	var views []view
	if errors.Join(err, json.Unmarshal(answer, &views)) != nil {
		return
	}
	byAddress := make(map[string]view, len(views))
	for _, v := range views {
		byAddress[v.Address] = v
	}
	fmt.Fprintf(os.Stderr, "%7.2fs", time.Since(begin).Seconds())
	for i, n := range w.nodes {
		v := byAddress[n.Address]
		fmt.Fprintf(os.Stderr, "  n%d %s %d of %d", i, v.State, v.InFlight, v.Limit)
	}
	if len(samples) > 0 {
		s := samples[len(samples)-1]
		fmt.Fprintf(os.Stderr, "  %.1f MiB, heap %.1f MiB, %d goroutines, %d files", s.Anonymous, s.Heap, s.Goroutines, s.Files)
	}
	fmt.Fprintln(os.Stderr)
}
