//go:build unix

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// key names a row of the table; values are its measurements: by contender, one
// for each seed.
type (
	key    struct{ scenario, title string }
	values map[*contender][]float64
)

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n == 0 {
		return math.NaN()
	}
	return (s[(n-1)/2] + s[n/2]) / 2
}

// cell is the median with the range of all seeds behind it.
func cell(v []float64) string {
	if len(v) == 0 {
		return "–"
	}
	lo, hi := slices.Min(v), slices.Max(v)
	if lo == hi {
		return number(lo)
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(v)), number(lo), number(hi))
}

func number(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// ratio is ours to another's, empty where a ratio says nothing.
func ratio(ours, other float64) string {
	if math.IsNaN(ours) || math.IsNaN(other) || other == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ours/other)
}

// printTable prints Markdown. The ratios are of our median to the median of the
// best peer and of stock Caddy.
func printTable(w io.Writer, chosen []*contender, scenarios []*scenario, measured map[key]values) {
	fmt.Fprint(w, "| |")
	for _, c := range chosen {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprint(w, " to the best peer | to stock Caddy | wanted |\n|---|")
	for range len(chosen) + 3 {
		fmt.Fprint(w, "--:|")
	}
	fmt.Fprintln(w)
	for _, s := range scenarios {
		for _, r := range s.rows {
			v, ok := measured[key{s.name, r.title}]
			if !ok {
				continue
			}
			title := r.title
			if r.unit != "" {
				title += ", " + r.unit
			}
			fmt.Fprintf(w, "| %s |", title)
			own, best, plain := math.NaN(), math.NaN(), math.NaN()
			for _, c := range chosen {
				fmt.Fprintf(w, " %s |", cell(v[c]))
				m := median(v[c])
				switch c.name {
				case ours:
					own = m
					continue
				case stock:
					plain = m
				}
				if math.IsNaN(best) || (m < best) != r.more {
					best = m
				}
			}
			fmt.Fprintf(w, " %s | %s | %s |\n", ratio(own, best), ratio(own, plain), r.wanted)
		}
	}
}
