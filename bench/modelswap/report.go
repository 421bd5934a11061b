//go:build linux

package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/steady"
)

// report is what a run was like.
type report struct {
	options     *options
	load        *load
	took        time.Duration
	orders      orders
	samples     []steady.Sample
	idle, after steady.Sample
	held        []steady.Resource
	violations  []string
}

func (r *report) judge() {
	if n := r.load.failed + r.load.wrong; n > 0 {
		r.violations = append(r.violations, fmt.Sprintf("%d requests lost, %d answers wrong:", r.load.failed, r.load.wrong))
		r.violations = append(r.violations, r.load.bad...)
	}
	r.violations = append(r.violations, r.orders.violations...)
	if len(r.load.by) < 2 {
		r.violations = append(r.violations, "only one model has answered")
	}
	// A model of these has 13 MiB of weights in memory: one that is left behind
	// would be seen at once, two are there for the time of a change.
	var grown []string
	r.held, grown = steady.Judge(r.options.duration, r.samples, r.idle, r.after,
		steady.Allowed{AnonymousMiB: 20, HeapMiB: 5, Goroutines: 30, Files: 30})
	r.violations = append(r.violations, grown...)
}

func (r *report) String() string {
	var b strings.Builder
	o, l := r.options, r.load
	fmt.Fprintf(&b, "%v, %d clients, %d texts, cache of %d, seed %d; %d cores, %s/%s, %s.\n\n",
		o.duration, o.clients, o.texts, o.cache, o.seed, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	slices.Sort(l.latencies)
	fmt.Fprintf(&b, "| answers | lost | wrong | a second | p50, ms | p99, ms | slowest, ms | by one model | by the other |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	counts := slices.Sorted(maps.Values(l.by))
	for len(counts) < 2 {
		counts = append(counts, 0)
	}
	fmt.Fprintf(&b, "| %d | %d | %d | %.0f | %.1f | %.1f | %.0f | %d | %d |\n\n", len(l.latencies), l.failed, l.wrong,
		float64(len(l.latencies))/r.took.Seconds(), ms(l.latencies, 0.5), ms(l.latencies, 0.99), ms(l.latencies, 1), counts[0], counts[1])
	kinds := slices.Sorted(maps.Keys(r.orders.counts))
	fmt.Fprintf(&b, "| %s | slowest change, ms |\n|%s\n|", strings.Join(kinds, " | "), strings.Repeat("--:|", len(kinds)+1))
	for _, k := range kinds {
		fmt.Fprintf(&b, " %d |", r.orders.counts[k])
	}
	fmt.Fprintf(&b, " %d |\n\n", r.orders.slowest.Milliseconds())
	b.WriteString(steady.Table(r.held))
	for _, v := range r.violations {
		fmt.Fprintf(&b, "\nVIOLATED: %s", v)
	}
	if len(r.violations) == 0 {
		fmt.Fprint(&b, "\nNothing lost, nothing mixed up, nothing left behind.")
	}
	return b.String() + "\n"
}

// ms is a quantile of sorted durations.
func ms(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[int(q*float64(len(sorted)-1))]) / float64(time.Millisecond)
}
