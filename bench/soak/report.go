//go:build linux

package main

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// report is what a run was like.
type report struct {
	options     *options
	result      *openloop.Result
	samples     []sample
	idle, after sample // before the load, and after it
	counts      map[kind]int
	flat        []flatness
	violations  []string
}

// flatness is how a resource developed after the warm-up.
type flatness struct {
	name, unit                    string
	idle, early, late, after, max float64
	growth, allowed               float64 // over the time from the warm-up on
	judged                        bool
}

// The warm-up is a fifth of the run; what is left must be long enough for a
// slope to say something.
const leastJudged = 2 * time.Minute

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
	warm := r.options.duration / 5
	var steady []sample
	for _, s := range r.samples {
		if s.at >= warm {
			steady = append(steady, s)
		}
	}
	resource := func(name, unit string, least, share float64, of func(sample) float64) {
		f := flatness{name: name, unit: unit, idle: of(r.idle), after: of(r.after)}
		if len(steady) >= 5 {
			third := max(1, len(steady)/3)
			f.early, f.late = mean(steady[:third], of), mean(steady[len(steady)-third:], of)
			for _, s := range r.samples {
				f.max = max(f.max, of(s))
			}
			f.growth = slope(steady, of) * (steady[len(steady)-1].at - steady[0].at).Seconds()
			f.allowed = max(least, share*f.early)
			f.judged = steady[len(steady)-1].at-steady[0].at >= leastJudged
			if f.judged && f.growth > f.allowed {
				r.violations = append(r.violations, fmt.Sprintf("%s grew by %.1f %s after the warm-up", name, f.growth, unit))
			}
		}
		r.flat = append(r.flat, f)
	}
	// How many connections are open depends on the load. What is left of each
	// of some 230 reloads would be more.
	resource("anonymous memory", "MiB", 6, 0.1, func(s sample) float64 { return s.anonymous })
	resource("live Go heap", "MiB", 1.5, 0.1, func(s sample) float64 { return s.heap })
	resource("goroutines", "", 50, 0.1, func(s sample) float64 { return float64(s.goroutines) })
	resource("file descriptors", "", 30, 0.1, func(s sample) float64 { return float64(s.files) })
}

func mean(samples []sample, of func(sample) float64) (m float64) {
	for _, s := range samples {
		m += of(s) / float64(len(samples))
	}
	return m
}

// slope is the growth per second as Theil and Sen estimate it, by the median of
// the slopes between all pairs of samples: no single peak can bend it.
func slope(samples []sample, of func(sample) float64) float64 {
	var slopes []float64
	for i, a := range samples {
		for _, b := range samples[i+1:] {
			if dt := (b.at - a.at).Seconds(); dt > 0 {
				slopes = append(slopes, (of(b)-of(a))/dt)
			}
		}
	}
	if len(slopes) == 0 {
		return math.NaN()
	}
	slices.Sort(slopes)
	return slopes[len(slopes)/2]
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

	fmt.Fprintf(&b, "| | before the load | after the warm-up | last third | most | after the load | growth after the warm-up (allowed) |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, f := range r.flat {
		growth := fmt.Sprintf("%+.1f (%.1f)", f.growth, f.allowed)
		if !f.judged {
			growth = "too short to tell"
		}
		name := f.name
		if f.unit != "" {
			name += ", " + f.unit
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f | %.1f | %.1f | %.1f | %s |\n", name, f.idle, f.early, f.late, f.max, f.after, growth)
	}
	for _, v := range r.violations {
		fmt.Fprintf(&b, "\nVIOLATED: %s", v)
	}
	if len(r.violations) == 0 {
		fmt.Fprint(&b, "\nNothing lost, nothing mixed up, nothing left behind.")
	}
	return b.String() + "\n"
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
