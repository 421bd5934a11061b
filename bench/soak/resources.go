//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// sample is what the gateway's process holds.
type sample struct {
	at         time.Duration // since the first request
	anonymous  float64       // resident memory that is no file's, MiB
	heap       float64       // live, just after a collection, MiB
	goroutines int
	files      int // open file descriptors
}

// every is the time between samples: each one costs the gateway a collection.
const every = 2 * time.Second

// watch takes samples until ctx ends.
func (w *world) watch(ctx context.Context, begin time.Time) (samples []sample) {
	for {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return samples
		}
		// Between two configurations the admin endpoint may be away.
		if s, err := w.measure(); err == nil {
			s.at = time.Since(begin)
			samples = append(samples, s)
		}
		if w.options.verbose {
			w.tell(begin, samples)
		}
	}
}

// tell prints what the gateway thinks of its nodes, and what it holds.
func (w *world) tell(begin time.Time, samples []sample) {
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
		fmt.Fprintf(os.Stderr, "  %.1f MiB, heap %.1f MiB, %d goroutines, %d files", s.anonymous, s.heap, s.goroutines, s.files)
	}
	fmt.Fprintln(os.Stderr)
}

func (w *world) measure() (s sample, err error) {
	if s.heap, err = w.liveHeap(); err != nil {
		return s, err
	}
	answer, err := w.gateway.Call(http.MethodGet, "/debug/pprof/goroutine?debug=1", "")
	if err != nil {
		return s, err
	}
	if _, err := fmt.Sscanf(string(answer), "goroutine profile: total %d", &s.goroutines); err != nil {
		return s, fmt.Errorf("counting goroutines: %w", err)
	}
	proc := fmt.Sprintf("/proc/%d/", w.gateway.PID())
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		return s, err
	}
	s.files = len(files)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return s, err
	}
	kib, err := field(string(status), "RssAnon:")
	s.anonymous = kib / 1024
	return s, err
}

// liveHeap lets the gateway collect its garbage and returns what is left, MiB.
func (w *world) liveHeap() (float64, error) {
	answer, err := w.gateway.Call(http.MethodGet, "/debug/pprof/heap?gc=1&debug=1", "")
	if err != nil {
		return 0, err
	}
	bytes, err := field(string(answer), "# HeapAlloc =")
	return bytes / (1 << 20), err
}

// field is the number that follows a name at the begin of a line.
func field(text, name string) (float64, error) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			words := strings.Fields(rest)
			if len(words) == 0 {
				break
			}
			return strconv.ParseFloat(words[0], 64)
		}
	}
	return 0, errors.New("no " + name)
}
