//go:build linux

// Package steady tells whether a process that runs under load for minutes holds
// more and more: memory, goroutines, file descriptors.
package steady

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// Sample is what a gateway's process holds.
type Sample struct {
	At         time.Duration // since the load began
	Anonymous  float64       // resident memory that is no file's, MiB
	Heap       float64       // live, just after a collection, MiB
	Goroutines int
	Files      int // open file descriptors
}

// Every is the time between the samples of Watch: each one costs the gateway a
// collection.
const Every = 2 * time.Second

// Watch takes samples until ctx ends, and calls each, if there is one, with all
// of them after every step.
func Watch(ctx context.Context, g *gateway.Gateway, begin time.Time, each func([]Sample)) (samples []Sample) {
	for {
		select {
		case <-time.After(Every):
		case <-ctx.Done():
			return samples
		}
		// Between two configurations the admin endpoint may be away.
		if s, err := Measure(g); err == nil {
			s.At = time.Since(begin)
			samples = append(samples, s)
		}
		if each != nil {
			each(samples)
		}
	}
}

// Measure asks /proc and the profiles of the gateway's admin endpoint.
func Measure(g *gateway.Gateway) (s Sample, err error) {
	answer, err := g.Call(http.MethodGet, "/debug/pprof/heap?gc=1&debug=1", "")
	if err != nil {
		return s, err
	}
	bytes, err := field(string(answer), "# HeapAlloc =")
	if err != nil {
		return s, err
	}
	s.Heap = bytes / (1 << 20)
	if answer, err = g.Call(http.MethodGet, "/debug/pprof/goroutine?debug=1", ""); err != nil {
		return s, err
	}
	if _, err := fmt.Sscanf(string(answer), "goroutine profile: total %d", &s.Goroutines); err != nil {
		return s, fmt.Errorf("counting goroutines: %w", err)
	}
	proc := fmt.Sprintf("/proc/%d/", g.PID())
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		return s, err
	}
	s.Files = len(files)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return s, err
	}
	kib, err := field(string(status), "RssAnon:")
	s.Anonymous = kib / 1024
	return s, err
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
