package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/edsrzf/mmap-go"
)

func random(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

// close fails the test when a value is further off than a float32 sum of
// terms products may be.
func closeTo(t *testing.T, what string, got []float32, want []float64, terms int) {
	t.Helper()
	limit := 2e-6 * math.Sqrt(float64(terms)+1)
	for i := range want {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= limit*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestMulAgreesWithDoublePrecision(t *testing.T) { eachLevel(t, mulAgreesWithDoublePrecision) }

func mulAgreesWithDoublePrecision(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, rows := range []int{0, 1, 2, 3, 4, 5, 33} {
		for _, out := range []int{1, 3, 4, 7, 64, 65, 130} {
			for _, in := range []int{1, 5, 64, 769} {
				for _, threads := range []int{0, 1, 3} {
					x, w, bias := random(rng, rows*in), random(rng, out*in), random(rng, out)
					want := make([]float64, rows*out)
					for r := range rows {
						for o := range out {
							sum := float64(bias[o])
							for i := range in {
								sum += float64(x[r*in+i]) * float64(w[o*in+i])
							}
							want[r*out+o] = sum
						}
					}
					got := make([]float32, rows*out)
					m := Pack(w, out, in)
					m.Mul(got, x, bias, rows, threads)
					closeTo(t, fmt.Sprintf("%d×%d·%d, %d threads", rows, in, out, threads), got, want, in)
					m.Mul(got, x, nil, rows, threads)
					for i := range want {
						want[i] -= float64(bias[i%out])
					}
					closeTo(t, "without bias", got, want, in)
				}
			}
		}
	}
}

func TestAttentionAgreesWithDoublePrecision(t *testing.T) {
	eachLevel(t, attentionAgreesWithDoublePrecision)
}

func attentionAgreesWithDoublePrecision(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const dim, stride, scale = 6, 10, 0.4
	for _, n := range []int{1, 2, 3, 4, 5, 8, 17} {
		q, k, v := random(rng, n*stride), random(rng, n*stride), random(rng, n*stride)
		dst := make([]float32, n*stride)
		for i := range dst {
			dst[i] = 99 // to be left alone between the heads
		}
		Attention(dst, q, k, v, n, stride, dim, scale)
		for i := range n {
			weights, sum := make([]float64, n), 0.0
			for j := range n {
				dot := 0.0
				for d := range dim {
					dot += float64(q[i*stride+d]) * float64(k[j*stride+d])
				}
				weights[j] = math.Exp(scale * dot)
				sum += weights[j]
			}
			want := make([]float64, dim)
			for d := range dim {
				for j := range n {
					want[d] += weights[j] / sum * float64(v[j*stride+d])
				}
			}
			closeTo(t, fmt.Sprintf("%d tokens, row %d", n, i), dst[i*stride:], want, n)
			if dst[i*stride+dim] != 99 {
				t.Fatal("wrote outside its head")
			}
		}
	}
}

func TestActivationsAgreeWithDoublePrecision(t *testing.T) {
	eachLevel(t, activationsAgreeWithDoublePrecision)
}

func activationsAgreeWithDoublePrecision(t *testing.T) {
	x := make([]float32, 4001)
	for i := range x {
		x[i] = float32(i-2000) / 200 // -10 to 10
	}
	for name, f := range map[string]struct {
		got  func([]float32)
		want func(float64) float64
	}{
		"gelu":      {GELU, func(v float64) float64 { return 0.5 * v * math.Erfc(-v/math.Sqrt2) }},
		"gelu tanh": {GELUTanh, func(v float64) float64 { return 0.5 * v * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(v+0.044715*v*v*v))) }},
		"relu":      {ReLU, func(v float64) float64 { return math.Max(v, 0) }},
		"tanh":      {Tanh, math.Tanh},
	} {
		got, want := make([]float32, len(x)), make([]float64, len(x))
		copy(got, x)
		f.got(got)
		for i := range x {
			want[i] = f.want(float64(x[i]))
		}
		closeTo(t, name, got, want, 0)
	}
}

func TestActivationsKeepInfinityAndNaN(t *testing.T) { eachLevel(t, activationsKeepInfinityAndNaN) }

func activationsKeepInfinityAndNaN(t *testing.T) {
	inf := float32(math.Inf(1))
	x := []float32{inf, -inf, float32(math.NaN()), 1e30, -1e30}
	GELU(x)
	if x[0] != inf || x[3] != 1e30 || x[4] != 0 || x[2] == x[2] {
		t.Errorf("got %v", x)
	}
}

func TestSoftmaxSumsToOneAndSurvivesLargeValues(t *testing.T) {
	eachLevel(t, softmaxSumsToOneAndSurvivesLargeValues)
}

func softmaxSumsToOneAndSurvivesLargeValues(t *testing.T) {
	x := []float32{1000, 1000, -1000, 999}
	Softmax(x)
	e := math.Exp(-1)
	closeTo(t, "softmax", x, []float64{1 / (2 + e), 1 / (2 + e), 0, e / (2 + e)}, 0)
	Softmax(nil)
}

func TestLayerNormAgreesWithDoublePrecision(t *testing.T) {
	eachLevel(t, layerNormAgreesWithDoublePrecision)
}

func layerNormAgreesWithDoublePrecision(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const n, rows, epsilon = 37, 3, 1e-12
	x, gain, bias := random(rng, n*rows), random(rng, n), random(rng, n)
	for i := range x {
		x[i] = 50 + x[i] // a mean far from zero is where naive sums lose digits
	}
	want := make([]float64, len(x))
	for r := range rows {
		mean, variance := 0.0, 0.0
		for _, v := range x[r*n : (r+1)*n] {
			mean += float64(v) / n
		}
		for _, v := range x[r*n : (r+1)*n] {
			variance += (float64(v) - mean) * (float64(v) - mean) / n
		}
		for i := range n {
			want[r*n+i] = (float64(x[r*n+i])-mean)/math.Sqrt(variance+epsilon)*float64(gain[i]) + float64(bias[i])
		}
	}
	LayerNorm(x, gain, bias, epsilon)
	closeTo(t, "layer norm", x, want, n)
}

func TestParallelRaisesPanicsInTheCaller(t *testing.T) {
	for _, threads := range []int{1, 4} {
		func() {
			defer func() {
				if r := recover(); r != "broken" {
					t.Errorf("%d threads: recovered %v", threads, r)
				}
			}()
			Parallel(8, threads, func(i int) {
				if i == 5 {
					panic("broken")
				}
			})
			t.Errorf("%d threads: no panic", threads)
		}()
	}
}

func TestFaultsInWorkersArePanicsOfTheCaller(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := mmap.Map(f, mmap.RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = data.Unmap() }()
	if err := os.Truncate(path, 0); err != nil {
		t.Skipf("this system does not truncate mapped files: %v", err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if _, fault := recover().(interface{ Addr() uintptr }); !fault {
			t.Error("no fault in the caller")
		}
	}()
	read := make([]byte, 64) // keeps the compiler from dropping the load
	Parallel(len(read), 4, func(i int) {
		if i > 0 { // let the workers have some
			time.Sleep(time.Millisecond)
		}
		read[i] = data[i<<12]
	})
	t.Error("read from a file that is gone", read)
}
