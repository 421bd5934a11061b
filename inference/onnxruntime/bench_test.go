//go:build cgo && unix

package onnxruntime

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// direct is ONNX Runtime without this package: its own session, the tensors
// made once, nothing around the call.
type direct struct {
	session *ort.DynamicAdvancedSession
	inputs  []ort.Value
	output  []ort.Value
}

func newDirect(b *testing.B, path string, batch, length int) direct {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	o, err := ort.NewSessionOptions()
	must(err)
	defer free(o)
	must(o.SetIntraOpNumThreads(1))
	var d direct
	d.session, err = ort.NewDynamicAdvancedSession(path, []string{inputIDs, attentionMask, tokenTypeIDs}, []string{"logits"}, o)
	must(err)
	ids := make([]int64, batch*length)
	for i := range ids {
		ids[i] = int64(i * 37 % baseBERT.vocab)
	}
	ones, zeros := slices.Repeat([]int64{1}, len(ids)), make([]int64, len(ids))
	for _, data := range [][]int64{ids, ones, zeros} {
		t, err := ort.NewTensor(ort.NewShape(int64(batch), int64(length)), data)
		must(err)
		d.inputs = append(d.inputs, t)
	}
	out, err := ort.NewEmptyTensor[float32](ort.NewShape(int64(batch), int64(length), int64(len(testLabels))))
	must(err)
	d.output = []ort.Value{out}
	b.Cleanup(func() {
		freeAll(d.inputs)
		freeAll(d.output)
		must(d.session.Destroy())
	})
	return d
}

// spent is wall time, and the processor time of this process, which neighbours
// on a busy machine change far less.
type spent struct{ wall, cpu time.Duration }

func stopwatch(b *testing.B) spent {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return spent{time.Since(processStart), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

var processStart = time.Now()

// BenchmarkBERTBase compares the engine with direct calls, in turn, so that
// both see the same machine. Rates are of the median pass, by the clock; the
// comparison is of processor time. One thread.
func BenchmarkBERTBase(b *testing.B) {
	dir := exported(b, "base", tokenHead)
	for _, precision := range []engine.Precision{engine.FP32, engine.INT8} {
		e := openEngine(b, "onnxruntime", dir, engine.Options{Precision: precision})
		file, _, err := chooseFile(openDir(b, dir), precision)
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []struct{ batch, length int }{{1, 32}, {8, 32}, {1, 128}, {8, 128}} {
			b.Run(fmt.Sprintf("%s/batch%d/tokens%d", precision, size.batch, size.length), func(b *testing.B) {
				d := newDirect(b, filepath.Join(dir, file), size.batch, size.length)
				batch := randomBatch(rand.New(rand.NewPCG(1, 1)), baseBERT.vocab, slices.Repeat([]int{size.length}, size.batch)...)
				var ours, bare passes
				for b.Loop() {
					start := stopwatch(b)
					run(b, e, batch)
					between := stopwatch(b)
					if err := d.session.Run(d.inputs, d.output); err != nil {
						b.Fatal(err)
					}
					ours.add(start, between)
					bare.add(between, stopwatch(b))
				}
				b.ReportMetric(float64(size.batch)/median(ours.wall).Seconds(), "sentences/s")
				b.ReportMetric(float64(size.batch)/median(bare.wall).Seconds(), "direct/s")
				b.ReportMetric(100*median(bare.cpu).Seconds()/median(ours.cpu).Seconds(), "%-of-direct")
				b.ReportMetric(0, "ns/op") // the sum of both: of no use
			})
		}
	}
}

type passes struct{ wall, cpu []time.Duration }

func (p *passes) add(from, to spent) {
	p.wall = append(p.wall, to.wall-from.wall)
	p.cpu = append(p.cpu, to.cpu-from.cpu)
}

func median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// BenchmarkMixedLengths is a batch of 32 sentences whose lengths are as mixed
// as those of real text: log-normal, 30 tokens on average, 128 at most.
func BenchmarkMixedLengths(b *testing.B) {
	e := openEngine(b, "onnxruntime", exported(b, "base", tokenHead), engine.Options{Precision: engine.INT8})
	batch := mixedBatch(rand.New(rand.NewPCG(2, 2)), 32, 128)
	ways := []struct {
		name string
		do   func(b *testing.B)
	}{
		{"buckets", func(b *testing.B) { run(b, e, batch) }},
		{"one-by-one", func(b *testing.B) {
			for i := range batch {
				run(b, e, batch[i:i+1])
			}
		}},
		{"padded-fours", func(b *testing.B) { // in order of arrival, four to a pass
			for group := range slices.Chunk(batch, 4) {
				longest := 0
				for _, s := range group {
					longest = max(longest, len(s.IDs))
				}
				same := make([]engine.Sequence, len(group))
				for i := range same {
					same[i].IDs = make([]int32, longest)
				}
				run(b, e, same)
			}
		}},
	}
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			for b.Loop() {
				way.do(b)
			}
			b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "sentences/s")
		})
	}
}

func mixedBatch(rng *rand.Rand, n, longest int) []engine.Sequence {
	lengths := make([]int, n)
	for i := range lengths {
		lengths[i] = min(longest, max(3, int(24*math.Exp(0.7*rng.NormFloat64()))))
	}
	return randomBatch(rng, baseBERT.vocab, lengths...)
}

// BenchmarkMemory runs INT8 BERT-base in a process of its own, two passes at
// a time with lengths up to the longest, and reports that process's memory.
func BenchmarkMemory(b *testing.B) {
	dir := exported(b, "base", tokenHead)
	for b.Loop() {
		cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), memoryChild+"="+dir)
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		var now, most float64
		if _, err := fmt.Sscan(string(out), &now, &most); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		b.ReportMetric(now/1024, "MB-resident")
		b.ReportMetric(most/1024, "MB-peak")
	}
}

const memoryChild = "ONNXRUNTIME_TEST_MEMORY_OF"

// measureMemory is the child of BenchmarkMemory.
func measureMemory(path string) error {
	dir, err := modeldir.Open(path)
	if err != nil {
		return err
	}
	e, err := engine.Open("onnxruntime", dir, engine.Options{Precision: engine.INT8})
	if err != nil {
		return err
	}
	defer e.Close()
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(worker)))
			for start := time.Now(); time.Since(start) < 5*time.Second; {
				batch := mixedBatch(rng, 1+rng.IntN(32), maxTokens)
				if _, runErr := e.Run(context.Background(), batch); runErr != nil {
					panic(runErr)
				}
			}
		})
	}
	wg.Wait()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, key := range []string{"VmRSS:", "VmHWM:"} {
		_, value, _ := strings.Cut(string(status), key)
		fmt.Println(string(bytes.Fields([]byte(value))[0]))
	}
	return nil
}
