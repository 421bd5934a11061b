//go:build linux

package steady

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Resource is how much of something was held over time.
type Resource struct {
	name, unit                    string
	idle, early, late, after, max float64
	growth, allowed               float64 // over the time from the warm-up on
	sampled, judged               bool    // enough for the middle of the run, and for its growth
}

// The warm-up is a fifth of the run; what is left must be long enough for a
// slope to say something.
const leastJudged = 2 * time.Minute

// Allowed is how much a resource may grow, for noise: at least so much, or a
// tenth of what was held.
type Allowed struct {
	AnonymousMiB, HeapMiB, Goroutines, Files float64
}

// Judge compares the samples of a run of that duration, with one taken before
// the load and one after it, and says what has grown.
func Judge(duration time.Duration, samples []Sample, idle, after Sample, allowed Allowed) (all []Resource, violations []string) {
	var steady []Sample
	for _, s := range samples {
		if s.At >= duration/5 {
			steady = append(steady, s)
		}
	}
	resource := func(name, unit string, least float64, of func(Sample) float64) {
		r := Resource{name: name, unit: unit, idle: of(idle), after: of(after)}
		if r.sampled = len(steady) >= 5; r.sampled {
			third := max(1, len(steady)/3)
			r.early, r.late = mean(steady[:third], of), mean(steady[len(steady)-third:], of)
			for _, s := range samples {
				r.max = max(r.max, of(s))
			}
			over := steady[len(steady)-1].At - steady[0].At
			r.growth = slope(steady, of) * over.Seconds()
			r.allowed = max(least, 0.1*r.early)
			r.judged = over >= leastJudged
			if r.judged && r.growth > r.allowed {
				violations = append(violations, fmt.Sprintf("%s grew by %.1f %s after the warm-up", name, r.growth, unit))
			}
		}
		all = append(all, r)
	}
	resource("anonymous memory", "MiB", allowed.AnonymousMiB, func(s Sample) float64 { return s.Anonymous })
	resource("live Go heap", "MiB", allowed.HeapMiB, func(s Sample) float64 { return s.Heap })
	resource("goroutines", "", allowed.Goroutines, func(s Sample) float64 { return float64(s.Goroutines) })
	resource("file descriptors", "", allowed.Files, func(s Sample) float64 { return float64(s.Files) })
	return all, violations
}

func mean(samples []Sample, of func(Sample) float64) (m float64) {
	for _, s := range samples {
		m += of(s) / float64(len(samples))
	}
	return m
}

// slope is the growth per second as Theil and Sen estimate it, by the median of
// the slopes between all pairs of samples: no single peak can bend it.
func slope(samples []Sample, of func(Sample) float64) float64 {
	var slopes []float64
	for i, a := range samples {
		for _, b := range samples[i+1:] {
			if dt := (b.At - a.At).Seconds(); dt > 0 {
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

// Table is the resources in Markdown.
func Table(all []Resource) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | before the load | after the warm-up | last third | most | after the load | growth after the warm-up (allowed) |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range all {
		middle, growth := fmt.Sprintf("%.1f | %.1f | %.1f", r.early, r.late, r.max), fmt.Sprintf("%+.1f (%.1f)", r.growth, r.allowed)
		if !r.judged {
			growth = "too short to tell"
		}
		if !r.sampled {
			middle = "– | – | –"
		}
		name := r.name
		if r.unit != "" {
			name += ", " + r.unit
		}
		fmt.Fprintf(&b, "| %s | %.1f | %s | %.1f | %s |\n", name, r.idle, middle, r.after, growth)
	}
	return b.String()
}
