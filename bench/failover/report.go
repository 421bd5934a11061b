//go:build unix

package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// report gathers what the trials measured.
type report struct {
	contenders []*contender
	scenarios  []*scenario
	values     map[key]values
	// The noise: how late the generator was, by scenario the worst p99 of any
	// trial, and how busy the machine was.
	late map[*scenario]time.Duration
	busy map[*scenario]float64
}

func newReport(c []*contender, s []*scenario) *report {
	return &report{c, s, make(map[key]values), make(map[*scenario]time.Duration), make(map[*scenario]float64)}
}

func (r *report) add(t *trial, busy float64) {
	for _, row := range t.scenario.rows {
		k := key{t.scenario.name, row.title}
		v := r.values[k]
		if v == nil {
			v = make(values)
			r.values[k] = v
		}
		v[t.contender] = append(v[t.contender], row.value(t.result))
	}
	r.late[t.scenario] = max(r.late[t.scenario], t.result.Lateness(99))
	r.busy[t.scenario] = max(r.busy[t.scenario], busy)
}

// progress tells of trials that have just ended.
func (r *report) progress(w io.Writer, trials []*trial, seed uint64, busy float64, verbose bool) {
	for _, t := range trials {
		fmt.Fprintf(w, "%s, seed %d, %s:", t.scenario.name, seed, t.contender.name)
		for _, row := range t.scenario.rows {
			fmt.Fprintf(w, " %s%s;", number(row.value(t.result)), row.unit)
		}
		fmt.Fprintf(w, " late p99 %.1f ms, CPU %.0f %%\n", ms(t.result.Lateness(99)), 100*busy)
		if !verbose {
			continue
		}
		shares := t.result.Share()
		for _, node := range slices.Sorted(maps.Keys(shares)) {
			fmt.Fprintf(w, "  %s %.1f %%", node, 100*shares[node])
		}
		fmt.Fprintln(w)
		for _, line := range t.result.Failures() {
			fmt.Fprintf(w, "  %s\n", line)
		}
		timeline(w, t.result)
	}
}

// timeline shows each half second of a trial.
func timeline(w io.Writer, r *openloop.Result) {
	const step = second / 2
	for at := time.Duration(0); ; at += step {
		part := r.Between(at, at+step)
		if len(part.Records) == 0 {
			return
		}
		fmt.Fprintf(w, "  %4.1f s: %d requests, %d good, p50 %.0f ms, p99 %.0f ms", at.Seconds(), len(part.Records), len(part.Records)-part.Misses(slo), ms(part.Percentile(50)), ms(part.Percentile(99)))
		shares := part.Share()
		for _, node := range slices.Sorted(maps.Keys(shares)) {
			fmt.Fprintf(w, ", %s %.0f %%", node, 100*shares[node])
		}
		fmt.Fprintln(w)
	}
}

// print writes the table and what must be known to read it.
func (r *report) print(w io.Writer, o *options, caddy string) {
	how := "at the same time, but where they would fill the machine"
	if o.alone {
		how = "one after the other"
	}
	fmt.Fprintf(w, "Seeds: %d; gateways %s; the cells are the median and, in parentheses, the range over the seeds. Nodes: %d slots, %v, lognormal σ %g. SLO: %v. Machine: %s.\n\n",
		o.seeds, how, slots, service, o.sigma, slo, machine())
	printTable(w, r.contenders, r.scenarios, r.values)
	fmt.Fprintln(w, "\nWhat happened, and how disturbed it was (the worst trial's 99th percentile of how late requests were sent, and how busy the machine was):")
	fmt.Fprintln(w)
	for _, s := range r.scenarios {
		fmt.Fprintf(w, "- `%s`: %s. Late %.1f ms, CPU %.0f %%.\n", s.name, s.about, ms(r.late[s]), 100*r.busy[s])
	}
	fmt.Fprintln(w, "\nVersions:")
	fmt.Fprintln(w)
	for _, c := range r.contenders {
		fmt.Fprintf(w, "- %s: %s\n", c.title, c.version(caddy))
	}
}

// cpu is time in ticks that all processors spent.
type cpu struct{ busy, total float64 }

// readCPU reads /proc/stat; elsewhere than on Linux everything is 0.
func readCPU() (c cpu) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c
	}
	first, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(first) {
		if i < 1 || i > 8 { // after these come guests, which user time includes
			continue
		}
		v, _ := strconv.ParseFloat(field, 64)
		c.total += v
		if i != 4 && i != 5 { // idle, waiting for a disk
			c.busy += v
		}
	}
	return c
}

func (c cpu) since(before cpu) float64 {
	if c.total == before.total {
		return 0
	}
	return (c.busy - before.busy) / (c.total - before.total)
}
