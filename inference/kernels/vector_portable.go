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

func addPortable(dst, x []float32) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += x[i]
	}
}

func softmaxPortable(x []float32, scale float32) {
	peak := x[0]
	for _, v := range x {
		peak = max(peak, v)
	}
	peak *= scale
	var sum float64
	for i, v := range x {
		e := float32(math.Exp(float64(v*scale - peak)))
		x[i] = e
		sum += float64(e)
	}
	inverse := float32(1 / sum)
	for i := range x {
		x[i] *= inverse
	}
}

func geluTanhPortable(x []float32) {
	const c = 0.7978845608028654 // √(2/π)
	for i, v := range x {
		u := float64(v)
		x[i] = float32(0.5 * u * (1 + math.Tanh(c*(u+0.044715*u*u*u))))
	}
}

func layerNormPortable(x, gain, bias []float32, epsilon float32) {
	n := len(x)
	gain, bias = gain[:n], bias[:n]
	var sum float64
	for _, v := range x {
		sum += float64(v)
	}
	mean := float32(sum / float64(n))
	var squares float64
	for _, v := range x {
		d := v - mean
		squares += float64(d * d)
	}
	scale := float32(1 / math.Sqrt(squares/float64(n)+float64(epsilon)))
	for i, v := range x {
		x[i] = (v-mean)*scale*gain[i] + bias[i]
	}
}
