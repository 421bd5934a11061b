//go:build cgo && unix

package onnxruntime

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	_ "github.com/caddy-infer/caddy-infer/inference/goengine"
)

// BenchmarkGo compares the engine "go" with this one on BERT-base and BERT-tiny,
// pass by pass in turn. "go/ort" is the ratio of the fastest passes' speeds by
// the clock, which neighbours disturb least, and with one thread "cpu-go/ort"
// that of the medians of processor time: above 1, the engine "go" is faster. Both
// engines have the same weights, and in 8 bits each rounds them itself.
//
// go test -run '^$' -bench Go/base -benchtime 6x .
// go test -run '^$' -bench Go/tiny -benchtime 300x .
func BenchmarkGo(b *testing.B) {
	for _, shape := range []string{"base", "tiny"} {
		b.Run(shape, func(b *testing.B) {
			dir := exported(b, shape, tokenHead)
			for _, precision := range []engine.Precision{engine.FP32, engine.INT8} {
				for _, threads := range []int{1, 2} {
					opts := engine.Options{Precision: precision, Threads: threads}
					b.Run(fmt.Sprintf("%s/threads%d", precision, threads), func(b *testing.B) {
						compare(b, openEngine(b, "go", dir, opts), openEngine(b, "onnxruntime", dir, opts), threads)
					})
				}
			}
		})
	}
}

// compare runs batches of 1, 8 and 32 sentences of 32 and 128 tokens, and one of
// mixed lengths.
func compare(b *testing.B, ours, theirs engine.Engine, threads int) {
	type size struct {
		name    string
		lengths []int
	}
	var sizes []size
	for _, tokens := range []int{32, 128} {
		for _, batch := range []int{1, 8, 32} {
			sizes = append(sizes, size{fmt.Sprintf("%dx%d", batch, tokens), slices.Repeat([]int{tokens}, batch)})
		}
	}
	mixed := size{name: "32-mixed"}
	for _, s := range mixedBatch(rand.New(rand.NewPCG(2, 2)), 32, 128) {
		mixed.lengths = append(mixed.lengths, len(s.IDs))
	}
	for _, size := range append(sizes, mixed) {
		b.Run(size.name, func(b *testing.B) {
			batch := randomBatch(rand.New(rand.NewPCG(1, 1)), baseBERT.vocab, size.lengths...)
			run(b, ours, batch)
			run(b, theirs, batch)
			var us, them passes
			for b.Loop() {
				start := stopwatch(b)
				run(b, ours, batch)
				between := stopwatch(b)
				run(b, theirs, batch)
				us.add(start, between)
				them.add(between, stopwatch(b))
			}
			n := float64(len(batch))
			b.ReportMetric(n/slices.Min(us.wall).Seconds(), "go-sentences/s")
			b.ReportMetric(n/slices.Min(them.wall).Seconds(), "ort-sentences/s")
			b.ReportMetric(slices.Min(them.wall).Seconds()/slices.Min(us.wall).Seconds(), "go/ort")
			if threads == 1 {
				b.ReportMetric(median(them.cpu).Seconds()/median(us.cpu).Seconds(), "cpu-go/ort")
			}
			b.ReportMetric(0, "ns/op") // the sum of both: of no use
		})
	}
}
