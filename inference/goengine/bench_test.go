package goengine

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// randomBERT writes a token classifier of that shape. The weights are noise:
// it is for speed and memory, not for answers.
func randomBERT(b testing.TB, hidden, layers, heads, intermediate, vocab int) string {
	b.Helper()
	path := b.TempDir()
	config, err := json.Marshal(map[string]any{
		"architectures": []string{"BertForTokenClassification"}, "model_type": "bert",
		"vocab_size": vocab, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
		"intermediate_size": intermediate, "max_position_embeddings": 512, "type_vocab_size": 2, "num_labels": 13,
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "config.json"), config, 0o600); err != nil {
		b.Fatal(err)
	}
	// One block of noise serves all tensors: only its size matters.
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4*max(vocab, intermediate, 512)*hidden)
	for i := range len(noise) / 4 {
		noise[4*i+2], noise[4*i+3] = byte(rng.Uint32()), 0x3c|byte(rng.Uint32())&0x80 // about ±0.01
	}
	var tensors []safetensors.Tensor
	add := func(name string, shape ...int) {
		n := 4
		for _, d := range shape {
			n *= d
		}
		tensors = append(tensors, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: shape, Data: noise[:n]})
	}
	linear := func(name string, out, in int) { add(name+".weight", out, in); add(name+".bias", out) }
	norm := func(name string) { add(name+".weight", hidden); add(name+".bias", hidden) }
	add("bert.embeddings.word_embeddings.weight", vocab, hidden)
	add("bert.embeddings.position_embeddings.weight", 512, hidden)
	add("bert.embeddings.token_type_embeddings.weight", 2, hidden)
	norm("bert.embeddings.LayerNorm")
	for i := range layers {
		at := fmt.Sprintf("bert.encoder.layer.%d.", i)
		for name := range strings.FieldsSeq("attention.self.query attention.self.key attention.self.value attention.output.dense") {
			linear(at+name, hidden, hidden)
		}
		linear(at+"intermediate.dense", intermediate, hidden)
		linear(at+"output.dense", hidden, intermediate)
		norm(at + "attention.output.LayerNorm")
		norm(at + "output.LayerNorm")
	}
	linear("classifier", 13, hidden)
	f, err := os.Create(filepath.Join(path, "model.safetensors"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, tensors); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkBERT reports sentences per second and the memory that Go holds
// beside the mapped weights. "base" is BERT-base, the size of RaNER and
// StructBERT; "tiny" is 4 layers of 312, as TinyBERT.
func BenchmarkBERT(b *testing.B) {
	for _, shape := range []struct {
		name                                       string
		hidden, layers, heads, intermediate, vocab int
	}{
		{"tiny", 312, 4, 12, 1200, 21128},
		{"base", 768, 12, 12, 3072, 21128},
	} {
		path := randomBERT(b, shape.hidden, shape.layers, shape.heads, shape.intermediate, shape.vocab)
		dir, err := modeldir.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		for _, size := range []struct{ batch, tokens int }{{1, 32}, {8, 32}, {1, 128}, {8, 128}} {
			for _, c := range []struct {
				precision engine.Precision
				threads   int
			}{{engine.FP32, 1}, {engine.FP32, 0}, {engine.INT8, 1}, {engine.INT8, 0}} {
				b.Run(fmt.Sprintf("%s/%s/batch=%d/tokens=%d/threads=%d", shape.name, c.precision, size.batch, size.tokens, c.threads), func(b *testing.B) {
					e, err := engine.Open("go", dir, engine.Options{Threads: c.threads, Precision: c.precision})
					if err != nil {
						b.Fatal(err)
					}
					defer e.Close()
					batch := make([]engine.Sequence, size.batch)
					for i := range batch {
						for t := range size.tokens {
							batch[i].IDs = append(batch[i].IDs, int32((i*size.tokens+t*131)%shape.vocab))
						}
					}
					b.ReportAllocs()
					best := time.Duration(math.MaxInt64) // neighbours make passes slower, never faster
					for b.Loop() {
						start := time.Now()
						if _, err := e.Run(b.Context(), batch); err != nil {
							b.Fatal(err)
						}
						best = min(best, time.Since(start))
					}
					b.ReportMetric(float64(size.batch)/best.Seconds(), "best-sentences/s")
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					b.ReportMetric(float64(m.HeapInuse)/1e6, "heap-MB")
				})
			}
		}
	}
}

// BenchmarkScheduling is BERT-base in INT8 with one sentence of 32 tokens a
// pass and some passes at the same time: what a lone request gains by the
// threads that it is given, and what it costs under load.
func BenchmarkScheduling(b *testing.B) {
	dir, err := modeldir.Open(randomBERT(b, 768, 12, 12, 3072, 21128))
	if err != nil {
		b.Fatal(err)
	}
	batch := []engine.Sequence{{IDs: make([]int32, 32)}}
	for i := range batch[0].IDs {
		batch[0].IDs[i] = int32(i * 131)
	}
	procs := runtime.GOMAXPROCS(0)
	for _, at := range []int{1, procs, 2 * procs} {
		for _, n := range []int{1, procs, 0} {
			b.Run(fmt.Sprintf("passes=%d/threads=%d", at, n), func(b *testing.B) {
				e, err := engine.Open("go", dir, engine.Options{Threads: n, Precision: engine.INT8})
				if err != nil {
					b.Fatal(err)
				}
				defer e.Close()
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range at {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							if _, err := e.Run(b.Context(), batch); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sentences/s")
			})
		}
	}
}

// BenchmarkLoad is the time from opening a BERT-base to its first answer:
// with int8, quantised anew ("int8") or from the cache.
func BenchmarkLoad(b *testing.B) {
	path := randomBERT(b, 768, 12, 12, 3072, 21128)
	for _, c := range []struct {
		name      string
		precision engine.Precision
		keep      bool
	}{{"fp32", engine.FP32, false}, {"int8", engine.INT8, false}, {"int8-cached", engine.INT8, true}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if !c.keep {
					_ = os.Remove(filepath.Join(path, CacheFile))
				}
				dir, err := modeldir.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				e, err := engine.Open("go", dir, engine.Options{Precision: c.precision})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Run(b.Context(), []engine.Sequence{{IDs: []int32{2, 3}}}); err != nil {
					b.Fatal(err)
				}
				if err := e.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
