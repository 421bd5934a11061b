// Package kernels holds the numeric loops of the engine "go" and nothing
// else: no files, no models, no configuration. Each comes in several levels,
// one for each instruction set that it has assembly for, and portable Go for
// every other processor; the best that the processor supports is used. Slices
// are row-major; lengths are the caller's promise.
package kernels

import (
	"runtime"
	"unsafe"
)

// Matrix is the weight of a linear layer, prepared for multiplication. It is
// immutable and safe for concurrent use.
type Matrix struct {
	out, in int
	level   *level
	// w is one row of in weights for each output at the portable level. At
	// the others it is panels of panelColumns outputs, which hold for each
	// input the weights of these outputs side by side.
	w []float32
}

// Pack prepares the weights of a layer with in inputs and out outputs, laid
// out as PyTorch's nn.Linear does: one row of in weights for each output. The
// Matrix may alias w, which must not change while it is used.
func Pack(w []float32, out, in int) *Matrix { return pack(current, w, out, in) }

func pack(l *level, w []float32, out, in int) *Matrix {
	m := &Matrix{out: out, in: in, level: l, w: w[:out*in]}
	if l.tiles != nil {
		m.w = panels(m.w, out, in)
	}
	return m
}

// Out is the number of outputs.
func (m *Matrix) Out() int { return m.out }

// In is the number of inputs.
func (m *Matrix) In() int { return m.in }

// Mul computes dst = x·Wᵀ + bias on up to threads goroutines. dst holds
// rows×Out, x rows×In values; bias may be nil. dst and x must not overlap.
func (m *Matrix) Mul(dst, x, bias []float32, rows, threads int) {
	if rows == 0 || m.out == 0 {
		return
	}
	dst, x = dst[:rows*m.out], x[:rows*m.in]
	if bias != nil {
		bias = bias[:m.out]
	}
	columns := m.level.columns
	if m.level.tiles == nil {
		columns = portableBlock
	}
	if rows*m.out*m.in < m.level.worthThread() {
		threads = 1
	}
	// Outputs rather than rows are shared out among the threads: then each
	// thread reads only its own part of the weights.
	Parallel((m.out+columns-1)/columns, threads, func(b int) {
		from := b * columns
		to, next := min(from+columns, m.out), from+threads*columns
		if m.level.tiles == nil {
			m.mulPortable(dst, x, bias, rows, from, to)
		} else {
			m.mulTiles(dst, x, bias, rows, from, to, next)
		}
	})
}

const (
	// panelColumns is the width of a panel: 64 bytes of float32.
	panelColumns = 16
	// panelAlign is the number of panels that there is a multiple of, so
	// that the widest tile always finds two.
	panelAlign = 2
	// depth is the most inputs that a tile sums up at a time. A panel of
	// that depth (48 KiB) and the rows of a tile (36 KiB) stay in the
	// second-level cache while all rows of x pass by.
	depth = 768
)

// panels lays out w for the tiles. Missing columns of the last panels are 0.
func panels(w []float32, out, in int) []float32 {
	p := aligned[float32](panelled(out) * in)
	Parallel((out+panelColumns-1)/panelColumns, runtime.GOMAXPROCS(0), func(panel int) {
		for o := panel * panelColumns; o < min(out, (panel+1)*panelColumns); o++ {
			transpose(p[panel*panelColumns*in+o%panelColumns:], w[o*in:(o+1)*in])
		}
	})
	return p
}

// panelled is the number of columns that panels for n columns have.
func panelled(n int) int {
	const columns = panelAlign * panelColumns
	return (n + columns - 1) / columns * columns
}

// aligned makes a slice that begins at a cache line.
func aligned[T float32 | int8 | uint8](n int) []T {
	const line = 64
	size := int(unsafe.Sizeof(T(0)))
	s := make([]T, n+line/size)
	past := int(uintptr(unsafe.Pointer(unsafe.SliceData(s))) % line)
	skip := (line - past) % line / size
	return s[skip : skip+n : skip+n]
}

// noBias is what is added to sums without a bias.
var noBias [panelAlign * panelColumns]float32

// mulTiles computes the outputs [from, to) of all rows, no more than a tile
// is wide, by tiles. The outputs from next on are what this thread will
// probably compute next.
func (m *Matrix) mulTiles(dst, x, bias []float32, rows, from, to, next int) {
	start := &noBias[0]
	if bias != nil {
		start = &bias[from]
	}
	ahead := 0
	if next < m.out {
		ahead = (next - from) * m.in
	}
	m.level.mulColumns(dst[from:], m.out, x, m.in, m.w[from*m.in:], m.in, ahead, start, rows, to-from)
}

// mulColumns computes dst = x·w + bias for some rows and as many columns as
// a tile may have. w is panels of in inputs each. Those that will be used
// next are ahead values further on; 0 if that is not known.
//
// Tiles fetch them while they compute. Otherwise the first tile of rows would
// wait for each line of them, which takes a third of a pass with few rows.
func (l *level) mulColumns(dst []float32, dstStride int, x []float32, xStride int, w []float32, in, ahead int, bias *float32, rows, columns int) {
	const size = int(unsafe.Sizeof(w[0]))
	for at := 0; at < in; at += depth {
		weights, k := &w[at*panelColumns], min(depth, in-at)
		var next, step int // both 0: nothing to fetch
		if at+depth < in {
			next = depth * panelColumns * size
		} else if ahead > 0 {
			next = (ahead - at*panelColumns) * size
		}
		if next > 0 {
			step = fetchStep(panelColumns*size, rows, len(l.tiles))
		}
		for r := 0; r < rows; {
			n := nextTile(rows-r, len(l.tiles))
			sums := &dst[r*dstStride]
			from, fromStride := bias, 0
			if at > 0 { // the sums of the inputs before
				from, fromStride = sums, dstStride
			}
			l.tiles[n-1](sums, dstStride, from, fromStride, &x[r*xStride+at], xStride, weights, in*panelColumns, k, next, step, columns)
			r += n
			next += step * k
		}
	}
}

// fetchStep is how many of the bytes that each step of a tile reads of the
// next weights, if all tiles of some rows together fetch them all.
func fetchStep(bytes, rows, most int) int {
	tiles := (rows + most - 1) / most
	return (bytes + tiles - 1) / tiles
}

// nextTile is how many of the rows that are left the next tile takes: not
// simply the most, because several even tiles are faster than some tall ones
// and a flat one.
func nextTile(left, most int) int {
	tiles := (left + most - 1) / most
	return (left + tiles - 1) / tiles
}
