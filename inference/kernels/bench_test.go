package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func benchLevels(b *testing.B, bench func(b *testing.B)) {
	for _, l := range levels() {
		b.Run(l.name, func(b *testing.B) {
			before := current
			defer func() { current = before }()
			current = l
			bench(b)
		})
	}
}

// best runs f and returns the time of the fastest run: neighbours on a busy
// machine make runs slower, never faster. Of a short f, many make a run.
func best(b *testing.B, many int, f func()) time.Duration {
	fastest := time.Duration(math.MaxInt64)
	for b.Loop() {
		start := time.Now()
		for range many {
			f()
		}
		fastest = min(fastest, time.Since(start)/time.Duration(many))
	}
	return fastest
}

// The layers of BERT-base: attention's projections, and the two of the
// feed-forward network.
var layers = []struct{ out, in int }{{768, 768}, {3072, 768}, {768, 3072}}

// BenchmarkMul is the fp32 product, BenchmarkMul8 that of 8 bits with its
// activations quantised.
func BenchmarkMul(b *testing.B)  { benchMul(b, false) }
func BenchmarkMul8(b *testing.B) { benchMul(b, true) }

func benchMul(b *testing.B, int8 bool) {
	rng := rand.New(rand.NewPCG(7, 8))
	benchLevels(b, func(b *testing.B) {
		for _, layer := range layers {
			w := random(rng, layer.out*layer.in)
			m, m8 := Pack(w, layer.out, layer.in), Pack8(Quantize(w, layer.out, layer.in), layer.out, layer.in)
			for _, rows := range []int{1, 32, 256} {
				for _, threads := range []int{1, 2} {
					b.Run(fmt.Sprintf("%dx%d/rows=%d/threads=%d", layer.out, layer.in, rows, threads), func(b *testing.B) {
						x, dst := random(rng, rows*layer.in), make([]float32, rows*layer.out)
						var q Rows
						fastest := best(b, 1, func() {
							if int8 {
								q.Quantize(x, rows, layer.in, threads)
								m8.Mul(dst, &q, nil, threads)
							} else {
								m.Mul(dst, x, nil, rows, threads)
							}
						})
						b.ReportMetric(2*float64(rows*layer.out*layer.in)/fastest.Seconds()/1e9, "best-GOP/s")
					})
				}
			}
		}
	})
}

func BenchmarkAttention(b *testing.B) {
	rng := rand.New(rand.NewPCG(23, 24))
	const dim, stride = 64, 768
	benchLevels(b, func(b *testing.B) {
		for _, n := range []int{32, 128, 512} {
			b.Run(fmt.Sprintf("tokens=%d", n), func(b *testing.B) {
				q, k, v, dst := random(rng, n*stride), random(rng, n*stride), random(rng, n*stride), make([]float32, n*stride)
				fastest := best(b, 1, func() { Attention(dst, q, k, v, n, stride, dim, 0.125) })
				b.ReportMetric(4*float64(n*n*dim)/fastest.Seconds()/1e9, "best-GOP/s")
			})
		}
	})
}

func BenchmarkVector(b *testing.B) {
	rng := rand.New(rand.NewPCG(9, 10))
	const n = 768
	x, y, gain := random(rng, n), make([]float32, n), random(rng, n)
	var q Rows
	benchLevels(b, func(b *testing.B) {
		for _, f := range []struct {
			name string
			run  func()
		}{
			{"gelu", func() { GELU(y) }},
			{"gelu-tanh", func() { GELUTanh(y) }},
			{"softmax", func() { Softmax(y) }},
			{"layer-norm", func() { LayerNorm(y, gain, gain, 1e-12) }},
			{"add", func() { Add(y, gain) }},
			{"quantize", func() { q.Quantize(y, 1, n, 1) }},
		} {
			b.Run(f.name, func(b *testing.B) {
				fastest := best(b, 100, func() { copy(y, x); f.run() })
				b.ReportMetric(float64(fastest.Nanoseconds())/n, "best-ns/value")
			})
		}
	})
}
