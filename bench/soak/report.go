//go:build linux

package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/steady"
)

// report is what a run was like.
type report struct {
	options     *options
	result      *openloop.Result
	samples     []steady.Sample
	idle, after steady.Sample // before the load, and after it
	counts      map[kind]int
	held        []steady.Resource
	violations  []string
}

func (r *report) judge() {
	res := r.result
	if n := res.Failed(); n > 0 {
		r.violations = append(r.violations, fmt.Sprintf("%d of %d requests lost:", n, len(res.Records)))
		r.violations = append(r.violations, res.Failures()...)
		for s := range res.Seconds(time.Minute) {
			from := time.Duration(s) * time.Second
			if part := res.Between(from, from+time.Second); part.Failed() > 0 {
				r.violations = append(r.violations, fmt.Sprintf("in second %d: %d of %d, sent late by %v (p99)", s, part.Failed(), len(part.Records), part.Lateness(99).Round(time.Millisecond)))
			}
		}
	}
	// How many connections are open depends on the load. What is left of each
	// of some 230 reloads would be more.
	var grown []string
	r.held, grown = steady.Judge(r.options.duration, r.samples, r.idle, r.after,
		steady.Allowed{AnonymousMiB: 6, HeapMiB: 1.5, Goroutines: 50, Files: 30})
	r.violations = append(r.violations, grown...)
}

func (r *report) String() string {
	var b strings.Builder
	o, res := r.options, r.result
	fmt.Fprintf(&b, "Seed %d, %v, %d nodes of which at most %d are in trouble, %.0f requests/s; %d cores, %s/%s, %s.\n\n",
		o.seed, o.duration, o.nodes, o.out, o.rate, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	fmt.Fprintf(&b, "| requests | lost | wrong or mixed | p50, ms | p99, ms | p99.9, ms | slowest, ms | sent late by (p99), ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	wrong := res.Count(func(rec *openloop.Record) bool { return rec.Outcome == openloop.WrongAnswer })
	fmt.Fprintf(&b, "| %d | %d | %d | %.0f | %.0f | %.0f | %.0f | %.1f |\n\n", len(res.Records), res.Failed()-wrong, wrong,
		ms(res.Percentile(50)), ms(res.Percentile(99)), ms(res.Percentile(99.9)), ms(res.Percentile(100)), ms(res.Lateness(99)))

	kinds := slices.Sorted(maps.Keys(r.counts))
	fmt.Fprint(&b, "| ")
	for _, k := range kinds {
		fmt.Fprintf(&b, "%s | ", k)
	}
	fmt.Fprintf(&b, "all |\n|%s\n| ", strings.Repeat("--:|", len(kinds)+1))
	all := 0
	for _, k := range kinds {
		fmt.Fprintf(&b, "%d | ", r.counts[k])
		all += r.counts[k]
	}
	fmt.Fprintf(&b, "%d |\n\n", all)

	b.WriteString(steady.Table(r.held))
	for _, v := range r.violations {
		fmt.Fprintf(&b, "\nVIOLATED: %s", v)
	}
	if len(r.violations) == 0 {
		fmt.Fprint(&b, "\nNothing lost, nothing mixed up, nothing left behind.")
	}
	return b.String() + "\n"
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
