package kernels

// portableBlock is how many outputs are computed for all rows of x before the
// next ones: 96 rows of 768 weights (288 KiB) stay in the second-level cache.
// It is a multiple of tileCols.
const portableBlock = 96

// mulPortable computes the outputs [from, to) of all rows.
func (m *Matrix) mulPortable(dst, x, bias []float32, rows, from, to int) {
	in := m.in
	r := 0
	for ; r+tileRows <= rows; r += tileRows {
		x0, x1 := x[r*in:(r+1)*in], x[(r+1)*in:(r+2)*in]
		y0, y1 := dst[r*m.out:(r+1)*m.out], dst[(r+1)*m.out:(r+2)*m.out]
		o := from
		for ; o+tileCols <= to; o += tileCols {
			w := m.w[o*in : (o+tileCols)*in]
			tile(y0[o:], y1[o:], x0, x1, w[:in], w[in:2*in], w[2*in:])
		}
		for ; o < to; o++ {
			w := m.w[o*in : (o+1)*in]
			y0[o], y1[o] = Dot(x0, w), Dot(x1, w)
		}
	}
	for ; r < rows; r++ {
		row(dst[r*m.out+from:r*m.out+to], x[r*in:(r+1)*in], m.w[from*in:to*in])
	}
	if bias == nil {
		return
	}
	bias = bias[from:to]
	for r := range rows {
		Add(dst[r*m.out+from:r*m.out+to], bias)
	}
}

// The tile, two rows of x by three rows of weights. Measured on amd64: its
// six sums and the operands stay in registers, where with 2×4 or 4×4 Go's
// compiler keeps a sum in memory, whose latency halves the speed.
const (
	tileRows = 2
	tileCols = 3
)

// tile computes the dot products of two rows of x with three rows of weights.
func tile(y0, y1, x0, x1, w0, w1, w2 []float32) {
	n := len(x0)
	x1, w0, w1, w2 = x1[:n], w0[:n], w1[:n], w2[:n] // no bounds checks below
	var a0, a1, a2, b0, b1, b2 float32
	for i := range x0 {
		xa, xb := x0[i], x1[i]
		w := w0[i]
		a0 += xa * w
		b0 += xb * w
		w = w1[i]
		a1 += xa * w
		b1 += xb * w
		w = w2[i]
		a2 += xa * w
		b2 += xb * w
	}
	y0, y1 = y0[:tileCols], y1[:tileCols]
	y0[0], y0[1], y0[2] = a0, a1, a2
	y1[0], y1[1], y1[2] = b0, b1, b2
}

// row computes the dot products of one row of x with len(y) rows of weights.
func row(y, x, w []float32) {
	n := len(x)
	for ; len(y) >= 4; y, w = y[4:], w[4*n:] {
		w0, w1, w2, w3 := w[:n], w[n:2*n], w[2*n:3*n], w[3*n:4*n]
		w0, w1, w2, w3 = w0[:len(x)], w1[:len(x)], w2[:len(x)], w3[:len(x)] // no bounds checks below
		var a0, a1, a2, a3 float32
		for i, v := range x {
			a0 += v * w0[i]
			a1 += v * w1[i]
			a2 += v * w2[i]
			a3 += v * w3[i]
		}
		y[0], y[1], y[2], y[3] = a0, a1, a2, a3
	}
	for o := range y {
		y[o] = Dot(x, w[o*n:(o+1)*n])
	}
}
