package kernels

import "math"

// blockValues is how many values a kernel is given at a time: the scheduler
// cannot interrupt assembly.
const blockValues = 1 << 13

// Add computes dst += x.
func Add(dst, x []float32) {
	x = x[:len(dst)]
	for len(dst) > blockValues {
		current.add(dst[:blockValues], x[:blockValues])
		dst, x = dst[blockValues:], x[blockValues:]
	}
	current.add(dst, x)
}

// Softmax replaces x by exp(x) divided by the sum of exp(x).
func Softmax(x []float32) {
	if len(x) > 0 {
		current.softmax(x, 1)
	}
}

// GELU replaces x by x·Φ(x), with the exact distribution function of BERT
// ("gelu"), not its tanh approximation.
func GELU(x []float32) { inBlocks(current.gelu, x) }

// GELUTanh is the approximation that some models were trained with
// ("gelu_new", "gelu_pytorch_tanh").
func GELUTanh(x []float32) { inBlocks(current.geluTanh, x) }

func inBlocks(f func([]float32), x []float32) {
	for len(x) > blockValues {
		f(x[:blockValues])
		x = x[blockValues:]
	}
	f(x)
}

// ReLU replaces negative values by zero.
func ReLU(x []float32) {
	for i, v := range x {
		x[i] = max(v, 0)
	}
}

// Tanh replaces x by its hyperbolic tangent.
func Tanh(x []float32) {
	for i, v := range x {
		x[i] = float32(math.Tanh(float64(v)))
	}
}

// LayerNorm normalises each of the rows of x, of len(gain) values, to mean 0
// and variance 1, then scales by gain and shifts by bias. epsilon is added to
// the variance.
func LayerNorm(x, gain, bias []float32, epsilon float32) {
	n := len(gain)
	bias = bias[:n]
	for ; len(x) >= n && n > 0; x = x[n:] {
		current.layerNorm(x[:n], gain, bias, epsilon)
	}
}
