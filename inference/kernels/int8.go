package kernels

import (
	"math"
	"runtime"
)

// Matrix8 is the weight of a linear layer in 8 bits: one scale for each
// output, zero at 0. It is immutable and safe for concurrent use.
//
// Its activations are quantised as they come (Rows), to 8 bits without sign,
// one scale and zero point for each row. The products are summed up exactly,
// so that all levels compute the same.
type Matrix8 struct {
	out, in int
	level   *level
	// weights are panels of panelColumns outputs, which hold for each group
	// of groupInputs inputs the weights of the first output, of the second
	// and so on. This is every level's layout, so that a stored matrix serves
	// them all. Missing inputs and outputs are 0.
	weights []int8
	scales  []float32 // of the outputs, panelled(out)
	sums    []int32   // of the weights of each output, panelled(out)
}

// groupInputs is how many inputs of one output lie side by side: VPDPBUSD
// sums up four products.
const groupInputs = 4

// groups is the number of groups that in inputs take.
func groups(in int) int { return (in + groupInputs - 1) / groupInputs }

// Weights8 is a Matrix8 as it is stored.
type Weights8 struct {
	Weights []int8    // Weights8Len values in the order of Matrix8
	Scales  []float32 // Scales8Len values, as are Sums
	Sums    []float32 // integers: 65,536 weights of 127 fit a float32
}

// Weights8Len and Scales8Len are the lengths of a Weights8's slices.
func Weights8Len(out, in int) int { return panelled(out) * groups(in) * groupInputs }

// Scales8Len is the length of Scales and of Sums.
func Scales8Len(out int) int { return panelled(out) }

// Quantize rounds the weights of a layer, laid out as for Pack: each output's
// largest weight becomes ±127. It is the same on every processor.
func Quantize(w []float32, out, in int) Weights8 {
	q := Weights8{
		Weights: aligned[int8](Weights8Len(out, in)),
		Scales:  make([]float32, panelled(out)), Sums: make([]float32, panelled(out)),
	}
	panel := panelColumns * groups(in) * groupInputs
	Parallel((out+panelColumns-1)/panelColumns, runtime.GOMAXPROCS(0), func(p int) {
		for o := p * panelColumns; o < min(out, (p+1)*panelColumns); o++ {
			to := q.Weights[p*panel+o%panelColumns*groupInputs:]
			q.Scales[o], q.Sums[o] = quantizeOutput(to, w[o*in:(o+1)*in])
		}
	})
	return q
}

// quantizeOutput rounds the weights of one output.
func quantizeOutput(to []int8, row []float32) (scale, sum float32) {
	var most float32
	for _, v := range row {
		most = max(most, v, -v)
	}
	inverse := 127 / float64(most)
	if !(inverse < math.MaxFloat64) { // zeros, or not numbers
		return 0, 0
	}
	total := 0
	for i, v := range row {
		r := int8(math.RoundToEven(float64(v) * inverse))
		to[i/groupInputs*groupInputs*panelColumns+i%groupInputs] = r
		total += int(r)
	}
	return most / 127, float32(total)
}

// Pack8 prepares quantised weights, which the Matrix8 aliases.
func Pack8(q Weights8, out, in int) *Matrix8 { return pack8(current, q, out, in) }

func pack8(l *level, q Weights8, out, in int) *Matrix8 {
	n := panelled(out)
	m := &Matrix8{
		out: out, in: in, level: l,
		weights: q.Weights[:Weights8Len(out, in)], scales: q.Scales[:n], sums: make([]int32, n),
	}
	for i, s := range q.Sums[:n] {
		m.sums[i] = int32(s)
	}
	return m
}

// Out is the number of outputs.
func (m *Matrix8) Out() int { return m.out }

// In is the number of inputs.
func (m *Matrix8) In() int { return m.in }

// Rows are activations in 8 bits: value = scale·(q - zero), of its row. The
// zero value is ready for use, and may be used again.
type Rows struct {
	level  *level
	rows   int
	in     int
	q      []uint8 // rows×stride bytes; at a wide level a value has two
	scales []float32
	zeros  []int32
}

// rowStride is the number of bytes of a row.
func (l *level) rowStride(in int) int {
	if l.wide {
		return 2 * groups(in) * groupInputs
	}
	return groups(in) * groupInputs
}

// Quantize rounds rows×in values of x, on up to threads goroutines.
func (r *Rows) Quantize(x []float32, rows, in, threads int) {
	r.quantize(current, x, rows, in, threads)
}

func (r *Rows) quantize(l *level, x []float32, rows, in, threads int) {
	r.level, r.rows, r.in = l, rows, in
	stride := l.rowStride(in)
	if cap(r.q) < rows*stride {
		r.q = aligned[uint8](rows * stride)
	}
	if cap(r.scales) < rows {
		r.scales, r.zeros = make([]float32, rows), make([]int32, rows)
	}
	r.q, r.scales, r.zeros = r.q[:rows*stride], r.scales[:rows], r.zeros[:rows]
	ParallelRows(rows, in, threads, func(from, to int) {
		for i := from; i < to; i++ {
			r.scales[i], r.zeros[i] = l.quantizeRow(r.q[i*stride:(i+1)*stride], x[i*in:(i+1)*in])
		}
	})
}

// quantizeRow spreads the range of x, widened to include 0, over 0 to 255,
// with 0 exactly at a whole number. Values that are not finite make results
// that are wrong or not finite, in their own row only.
func (l *level) quantizeRow(dst []uint8, x []float32) (scale float32, zero int32) {
	low, high := l.bounds(x)
	scale = (high - low) / 255
	inverse := 1 / scale
	switch {
	case !(inverse <= math.MaxFloat32): // nothing but zeros or denormals
		scale, inverse = 0, 0
	case inverse == 0: // infinity; it stays in the scale
		low = 0
	}
	zero = int32(min(max(math.RoundToEven(float64(-low*inverse)), 0), 255))
	whole := 0
	if l.quantize != nil && len(x) >= l.quantizeStep {
		whole = len(x) / l.quantizeStep * l.quantizeStep
		l.quantize(&dst[0], &x[0], whole, inverse, zero)
	}
	for i, v := range x[whole:] {
		q := roundByte(v, inverse, zero)
		switch at := whole + i; {
		case l.wide:
			dst[2*at], dst[2*at+1] = q, 0
		case l.signed:
			dst[at] = q ^ 0x80
		default:
			dst[at] = q
		}
	}
	if l.signed {
		zero -= 128
	}
	return scale, zero
}

// roundByte rounds as VCVTPS2DQ does. The conversion keeps a compiler from
// multiplying and adding at once, which would round differently.
func roundByte(v, inverse float32, zero int32) uint8 {
	q := math.RoundToEven(float64(float32(v * inverse)))
	if !(q >= -256 && q <= 256) { // not a number, or far off
		q = -256
	}
	return uint8(min(max(int32(q)+zero, 0), 255))
}

// Mul computes dst = x·Wᵀ + bias on up to threads goroutines. dst holds
// rows×Out values; bias may be nil.
func (m *Matrix8) Mul(dst []float32, x *Rows, bias []float32, threads int) {
	rows := x.rows
	if rows == 0 || m.out == 0 {
		return
	}
	if x.level != m.level || x.in != m.in {
		panic("kernels: rows and matrix do not fit")
	}
	dst = dst[:rows*m.out]
	if bias != nil {
		bias = bias[:m.out]
	}
	if rows*m.out*m.in < m.level.worthThread() {
		threads = 1
	}
	columns := m.level.columns8
	if m.level.tiles8 == nil {
		columns = panelColumns
	}
	Parallel((m.out+columns-1)/columns, threads, func(b int) {
		from := b * columns
		to, next := min(from+columns, m.out), from+threads*columns
		if m.level.tiles8 == nil {
			m.mulPortable(dst, x, bias, from, to)
		} else {
			m.mulTiles(dst, x, bias, from, to, next)
		}
	})
}

// mulTiles computes the outputs [from, to) of all rows, no more than a tile
// is wide. The outputs from next on are what this thread will probably
// compute next.
func (m *Matrix8) mulTiles(dst []float32, x *Rows, bias []float32, from, to, next int) {
	start := &noBias[0]
	if bias != nil {
		start = &bias[from]
	}
	n, stride, tiles := groups(m.in), m.level.rowStride(m.in), m.level.tiles8
	panel := panelColumns * groupInputs * n
	ahead, step := 0, 0
	if next < m.out {
		ahead, step = (next-from)/panelColumns*panel, fetchStep(m.level.columns8*groupInputs, x.rows, len(tiles))
	}
	for r := 0; r < x.rows; {
		tall := nextTile(x.rows-r, len(tiles))
		tiles[tall-1](&dst[r*m.out+from], m.out, &x.q[r*stride], stride, &m.weights[from/panelColumns*panel], panel, n, ahead, step,
			&x.scales[r], &x.zeros[r], &m.scales[from], &m.sums[from], start, to-from)
		r += tall
		ahead += step * n
	}
}

// mulPortable computes the outputs [from, to), of one panel, of all rows.
func (m *Matrix8) mulPortable(dst []float32, x *Rows, bias []float32, from, to int) {
	stride := m.level.rowStride(m.in)
	panel := m.weights[from*stride:][:panelColumns*stride]
	for r := range x.rows {
		q := x.q[r*stride : (r+1)*stride]
		for first := from; first < to; first += quadColumns {
			sums := dotQuad(q, panel[(first-from)*groupInputs:])
			for o := first; o < min(first+quadColumns, to); o++ {
				sum := sums[o-first] - x.zeros[r]*m.sums[o]
				// In this order, and each step rounded by itself, at all levels.
				y := float32(float32(float32(sum)*m.scales[o]) * x.scales[r])
				if bias != nil {
					y += bias[o]
				}
				dst[r*m.out+o] = y
			}
		}
	}
}

// quadColumns is how many columns are summed up in one pass over a row.
const quadColumns = 4

// dotQuad sums up the products of a row with four columns of a panel.
func dotQuad(q []uint8, panel []int8) [quadColumns]int32 {
	var s0, s1, s2, s3 int32
	for ; len(q) >= groupInputs; q = q[groupInputs:] {
		x := (*[groupInputs]uint8)(q) // arrays: no bounds checks below
		w := (*[groupInputs * quadColumns]int8)(panel)
		x0, x1, x2, x3 := int32(x[0]), int32(x[1]), int32(x[2]), int32(x[3])
		s0 += x0*int32(w[0]) + x1*int32(w[1]) + x2*int32(w[2]) + x3*int32(w[3])
		s1 += x0*int32(w[4]) + x1*int32(w[5]) + x2*int32(w[6]) + x3*int32(w[7])
		s2 += x0*int32(w[8]) + x1*int32(w[9]) + x2*int32(w[10]) + x3*int32(w[11])
		s3 += x0*int32(w[12]) + x1*int32(w[13]) + x2*int32(w[14]) + x3*int32(w[15])
		panel = panel[min(groupInputs*panelColumns, len(panel)):]
	}
	return [quadColumns]int32{s0, s1, s2, s3}
}

func boundsPortable(x []float32) (low, high float32) {
	for _, v := range x {
		if v < low {
			low = v
		} else if v > high {
			high = v
		}
	}
	return low, high
}
