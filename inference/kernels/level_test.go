package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// eachLevel runs a test at every level that this processor supports.
func eachLevel(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	for _, l := range levels() {
		t.Run(l.name, func(t *testing.T) {
			before := current
			defer func() { current = before }()
			current = l
			test(t)
		})
	}
}

func TestTheBestLevelIsChosenUnlessTheVariableNamesOne(t *testing.T) {
	few := []*level{&portable, {name: "fast"}}
	for _, tt := range []struct{ name, want, warning string }{
		{"", "fast", ""},
		{"portable", "portable", ""},
		{"fast", "fast", ""},
		{"avx1024", "fast", `CADDY_INFER_KERNELS="avx1024": this processor has portable, fast; using fast`},
	} {
		l, warning := choose(tt.name, few)
		if l.name != tt.want || warning != tt.warning {
			t.Errorf("%q: %s, %q", tt.name, l.name, warning)
		}
	}
}

func TestEveryLevelHasAllKernels(t *testing.T) {
	for _, l := range levels() {
		if l.add == nil || l.gelu == nil || l.geluTanh == nil || l.softmax == nil || l.layerNorm == nil || l.bounds == nil {
			t.Errorf("%s lacks kernels", l.name)
		}
		if (l.tiles != nil) != (l.columns > 0) || (l.tiles8 != nil) != (l.columns8 > 0) || (l.quantize != nil) != (l.quantizeStep > 0) {
			t.Errorf("%s is not consistent", l.name)
		}
		if l.columns > panelAlign*panelColumns || l.columns8 > panelAlign*panelColumns {
			t.Errorf("%s: tiles are wider than panels are aligned to", l.name)
		}
	}
}

// shapes are ragged in rows, outputs and inputs.
type shape struct{ rows, out, in int }

func shapes() []shape {
	list := []shape{{33, 100, 769}, {2, 33, 1537}, {12, 64, 768}}
	for _, rows := range []int{1, 2, 3, 5, 6, 7, 11, 12, 13, 25} {
		for _, out := range []int{1, 7, 15, 16, 17, 31, 32, 33, 48, 65} {
			for _, in := range []int{1, 2, 3, 4, 5, 7, 8, 9, 17, 67} {
				list = append(list, shape{rows, out, in})
			}
		}
	}
	return list
}

// unaligned is a random slice that begins at no multiple of eight bytes.
func unaligned(rng *rand.Rand, n int) []float32 { return random(rng, n+1)[1:] }

// sameProduct demands that got is as near to the portable product as sums in
// another order can be: within 2e-6 of the sum of the absolute products, the
// usual measure of a dot product's error.
func sameProduct(t *testing.T, got, x, w, bias []float32, s shape) {
	t.Helper()
	want := make([]float32, s.rows*s.out)
	pack(&portable, w, s.out, s.in).Mul(want, x, bias, s.rows, 1)
	for i := range want {
		r, o := i/s.out, i%s.out
		size := 0.0
		if bias != nil {
			size = math.Abs(float64(bias[o]))
		}
		for j := range s.in {
			size += math.Abs(float64(x[r*s.in+j]) * float64(w[o*s.in+j]))
		}
		if d := math.Abs(float64(got[i]) - float64(want[i])); !(d <= 2e-6*size) {
			t.Fatalf("%+v, row %d, output %d: %v, portable %v", s, r, o, got[i], want[i])
		}
	}
}

func TestLevelsMultiplyAlike(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 12))
		for i, s := range shapes() {
			x, w, bias := unaligned(rng, s.rows*s.in), unaligned(rng, s.out*s.in), unaligned(rng, s.out)
			if i%3 == 0 {
				bias = nil
			}
			got := unaligned(rng, s.rows*s.out)
			Pack(w, s.out, s.in).Mul(got, x, bias, s.rows, 1+i%2)
			sameProduct(t, got, x, w, bias, s)
		}
	})
}

// product8 is the product of quantised matrices at the current level.
func product8(x, w, bias []float32, s shape, threads int) []float32 {
	var rows Rows
	rows.Quantize(x, s.rows, s.in, 1)
	dst := make([]float32, s.rows*s.out)
	Pack8(Quantize(w, s.out, s.in), s.out, s.in).Mul(dst, &rows, bias, threads)
	return dst
}

func sameBits(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// portably runs f at the portable level.
func portably[T any](f func() T) T {
	before := current
	defer func() { current = before }()
	current = &portable
	return f()
}

func TestLevelsAgreeInEveryBitOfINT8(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 14))
		for i, s := range shapes() {
			x, w, bias := unaligned(rng, s.rows*s.in), unaligned(rng, s.out*s.in), unaligned(rng, s.out)
			if i%3 == 0 {
				bias = nil
			}
			got := product8(x, w, bias, s, 1+i%2)
			want := portably(func() []float32 { return product8(x, w, bias, s, 1) })
			if at := sameBits(got, want); at >= 0 {
				t.Fatalf("%+v, value %d: %v, portable %v", s, at, got[at], want[at])
			}
		}
	})
}

// The largest sums that there are: every product is 255·127, of one sign.
func TestINT8NeverOverflows(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, sign := range []float32{1, -1} {
			s := shape{1, 1, 1 << 16}
			x, w := make([]float32, s.in), make([]float32, s.in)
			for i := range x {
				x[i], w[i] = 1, sign
			}
			if got := product8(x, w, nil, s, 1); math.Abs(float64(got[0]/(sign*float32(s.in))-1)) > 1e-6 {
				t.Errorf("got %v", got)
			}
		}
	})
}

// Rounding errors of evenly distributed sizes: of a weight at most 1/254 of
// its output's largest, of an activation 1/510 of its row's range.
func TestINT8IsAsCloseAsItsStepsAllow(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(15, 16))
		s := shape{20, 40, 768}
		x, w, bias := random(rng, s.rows*s.in), random(rng, s.out*s.in), random(rng, s.out)
		exact := make([]float32, s.rows*s.out)
		pack(&portable, w, s.out, s.in).Mul(exact, x, bias, s.rows, 1)
		var wrong, all float64
		for i, v := range product8(x, w, bias, s, 1) {
			wrong += math.Pow(float64(v-exact[i]), 2)
			all += math.Pow(float64(exact[i]), 2)
		}
		if relative := math.Sqrt(wrong / all); !(relative < 0.012) || relative == 0 {
			t.Errorf("relative error %v", relative)
		}
	})
}

func TestINT8RowsWithoutRangeOrWithoutNumbers(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	eachLevel(t, func(t *testing.T) {
		const in = 19
		s := shape{6, 2, in}
		x := make([]float32, s.rows*s.in)
		fill := func(row int, v float32) {
			for i := range in {
				x[row*in+i] = v
			}
		}
		fill(1, 7)      // one value
		fill(2, 1e-45)  // a denormal
		fill(3, 0.5)    // as if it were alone:
		x[4*in] = inf   // the neighbours do not suffer
		x[5*in+3] = nan // nor here
		w := make([]float32, s.out*s.in)
		for i := range in {
			w[i] = 1 // the second output has no weights
		}
		got := product8(x, w, []float32{0, 3}, s, 1)
		for r, want := range []float64{0, 7 * in, 0, in / 2.} {
			if math.Abs(float64(got[2*r])-want) > 1e-4 || got[2*r+1] != 3 {
				t.Errorf("row %d: %v, want %v and 3", r, got[2*r:2*r+2], want)
			}
		}
		if v := float64(got[2*4]); !math.IsNaN(v) && !math.IsInf(v, 0) {
			t.Errorf("infinity became %v", v)
		}
	})
}

// vectorKernels are the functions of one slice, with the size that an error
// is relative to. GELU's is that of x, which is multiplied by a probability
// of absolute error.
var vectorKernels = map[string]struct {
	run  func(x []float32)
	size func(x, want float64) float64
}{
	"gelu":      {GELU, func(x, _ float64) float64 { return math.Max(1, math.Abs(x)) }},
	"gelu tanh": {GELUTanh, func(x, _ float64) float64 { return math.Max(1, math.Abs(x)) }},
	"softmax":   {Softmax, func(_, want float64) float64 { return math.Max(want, 1e-30) }},
	"softmax scaled": {
		func(x []float32) { current.softmax(x, 0.125) },
		func(_, want float64) float64 { return math.Max(want, 1e-30) },
	},
	"layer norm": {
		func(x []float32) { LayerNorm(x, ramp(len(x)), ramp(len(x)), 1e-12) },
		func(_, want float64) float64 { return math.Max(1, math.Abs(want)) },
	},
	"add": {func(x []float32) { Add(x, ramp(len(x))) }, func(_, _ float64) float64 { return 0 }},
}

func ramp(n int) []float32 {
	r := make([]float32, n)
	for i := range r {
		r[i] = 0.5 + float32(i%7)/8
	}
	return r
}

func sameVector(t *testing.T, name string, x []float32) {
	t.Helper()
	k := vectorKernels[name]
	got, want := append([]float32{0}, x...)[1:], append([]float32(nil), x...)
	k.run(got)
	portably(func() any { k.run(want); return nil })
	for i := range want {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if limit := 2e-6 * k.size(float64(x[i]), float64(want[i])); !(d <= limit) {
			t.Fatalf("%s of %d values: of %v came %v, portable %v", name, len(x), x[i], got[i], want[i])
		}
	}
}

func TestLevelsComputeVectorsAlike(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(17, 18))
		for name := range vectorKernels {
			for n := 1; n < 70; n++ {
				sameVector(t, name, random(rng, n))
			}
			for _, n := range []int{312, 768, 3072, blockValues + 3} {
				sameVector(t, name, random(rng, n))
			}
		}
		wide := make([]float32, 1<<14)
		for i := range wide {
			wide[i] = float32(i-1<<13) / (1 << 9) // -16 to 16
		}
		sameVector(t, "gelu", wide)
		sameVector(t, "gelu tanh", wide)
		sameVector(t, "softmax", wide)
	})
}

func TestLevelsAttendAlike(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(19, 20))
		for _, dim := range []int{1, 5, 16, 26, 32, 64} {
			for _, n := range []int{1, 2, 7, 12, 13, 31, 33, 130} {
				stride := dim + 3
				q, k, v := unaligned(rng, n*stride), unaligned(rng, n*stride), unaligned(rng, n*stride)
				got, want := make([]float32, n*stride), make([]float32, n*stride)
				Attention(got, q, k, v, n, stride, dim, 0.3)
				portable.attention(want, q, k, v, n, stride, dim, 0.3)
				for i := range want { // weights sum up to 1, values are near 1
					if d := math.Abs(float64(got[i] - want[i])); !(d <= 8e-6) {
						t.Fatalf("%d tokens of %d, value %d: %v, portable %v", n, dim, i, got[i], want[i])
					}
				}
			}
		}
	})
}

// FuzzLevels compares every level with the portable one on shapes, places in
// memory and values of any kind.
func FuzzLevels(f *testing.F) {
	f.Add(uint8(3), uint8(17), uint16(70), uint8(1), uint64(1), float32(1))
	f.Add(uint8(12), uint8(32), uint16(768), uint8(0), uint64(2), float32(1e-3))
	f.Add(uint8(13), uint8(1), uint16(1), uint8(3), uint64(3), float32(30))
	f.Fuzz(func(t *testing.T, rows, out uint8, in uint16, shift uint8, seed uint64, scale float32) {
		s := shape{1 + int(rows)%40, 1 + int(out)%100, 1 + int(in)%1700}
		if a := math.Abs(float64(scale)); !(a > 1e-6 && a < 1e6) {
			scale = 1
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		shifted := func(n int) []float32 {
			v := random(rng, n+int(shift)%16)[int(shift)%16:]
			for i := range v {
				v[i] *= scale
			}
			return v
		}
		x, w, bias := shifted(s.rows*s.in), shifted(s.out*s.in), shifted(s.out)
		before := current
		defer func() { current = before }()
		for _, l := range levels()[1:] {
			current = l
			got := shifted(s.rows * s.out)
			Pack(w, s.out, s.in).Mul(got, x, bias, s.rows, 1)
			sameProduct(t, got, x, w, bias, s)
			want := portably(func() []float32 { return product8(x, w, bias, s, 1) })
			if at := sameBits(product8(x, w, bias, s, 1), want); at >= 0 {
				t.Fatalf("%s, INT8 %+v: value %d differs", l.name, s, at)
			}
			for name := range vectorKernels {
				if !strings.HasPrefix(name, "softmax") || scale < 30 { // beyond, e to the rounding error counts
					sameVector(t, fmt.Sprint(name), x[:min(len(x), 100)])
				}
			}
		}
	})
}
