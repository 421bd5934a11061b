//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// printTable prints the results in file as Markdown. Ratios are to the base's
// requests per second at the same concurrency, or to its best where a row has
// no concurrency.
func printTable(w io.Writer, file, base string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var rows []result
	for line := range bytes.Lines(text) {
		var r result
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		rows = append(rows, r)
	}
	rates := make(map[int]float64)
	for _, r := range rows {
		if r.Name == base {
			rates[r.Concurrency] = r.PerSecond
			rates[0] = max(rates[0], r.PerSecond)
		}
	}
	if base != "" && len(rates) == 0 {
		return fmt.Errorf("no row is named %q", base)
	}
	fmt.Fprintln(w, "| server | c | req/s | ratio | p50 ms | p95 ms | errors | RSS MB | anonymous MB | CPU ms/req | mean batch | others' CPU |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, r := range rows {
		concurrency := fmt.Sprint(r.Concurrency)
		if r.Concurrency == 0 {
			concurrency = "–"
		}
		fmt.Fprintf(w, "| %s | %s | %.1f | %s | %.0f | %.0f | %d | %.0f | %s | %s | %s | %.0f %% |\n",
			r.Name, concurrency, r.PerSecond, optional("%.2f", r.PerSecond/rates[r.Concurrency], rates[r.Concurrency]),
			r.P50, r.P95, r.Errors, r.RSS, optional("%.0f", r.Anonymous, r.Anonymous), optional("%.1f", r.CPU, r.CPU), optional("%.1f", r.Batch, r.Batch), r.Others)
	}
	return nil
}

func optional(format string, value, known float64) string {
	if known == 0 {
		return ""
	}
	return fmt.Sprintf(format, value)
}
