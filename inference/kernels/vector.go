package kernels

import "math"

// Dot is the inner product of a and the first len(a) values of b.
func Dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		p, q := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += p[0] * q[0]
		s1 += p[1] * q[1]
		s2 += p[2] * q[2]
		s3 += p[3] * q[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// Add computes dst += x.
func Add(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += x[i]
	}
}

// Softmax replaces x by exp(x) divided by the sum of exp(x).
func Softmax(x []float32) {
	if len(x) == 0 {
		return
	}
	peak := x[0]
	for _, v := range x {
		peak = max(peak, v)
	}
	var sum float32
	for i, v := range x {
		e := float32(math.Exp(float64(v - peak)))
		x[i] = e
		sum += e
	}
	scale := 1 / sum
	for i := range x {
		x[i] *= scale
	}
}

// GELUTanh is the approximation that some models were trained with
// ("gelu_new", "gelu_pytorch_tanh").
func GELUTanh(x []float32) {
	const c = 0.7978845608028654 // √(2/π)
	for i, v := range x {
		u := float64(v)
		x[i] = float32(0.5 * u * (1 + math.Tanh(c*(u+0.044715*u*u*u))))
	}
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
		row := x[:n]
		var sum float64
		for _, v := range row {
			sum += float64(v)
		}
		mean := float32(sum / float64(n))
		var squares float64
		for _, v := range row {
			d := v - mean
			squares += float64(d * d)
		}
		scale := float32(1 / math.Sqrt(squares/float64(n)+float64(epsilon)))
		for i, v := range row {
			row[i] = (v-mean)*scale*gain[i] + bias[i]
		}
	}
}
