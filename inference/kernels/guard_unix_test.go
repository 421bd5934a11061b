//go:build unix

package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guarded returns a copy of v that ends or begins at a page that cannot be
// read, so that one value too many is a fault.
func guarded[T any](t *testing.T, v []T, atEnd bool) []T {
	t.Helper()
	var zero T
	size, page := len(v)*int(unsafe.Sizeof(zero)), unix.Getpagesize()
	pages := (size + page - 1) / page * page
	memory, err := unix.Mmap(-1, 0, pages+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(memory) })
	for _, guard := range [][]byte{memory[:page], memory[page+pages:]} {
		if err := unix.Mprotect(guard, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	inside := memory[page : page+pages]
	if atEnd {
		inside = inside[pages-size:]
	}
	if len(v) == 0 {
		return nil
	}
	out := unsafe.Slice((*T)(unsafe.Pointer(&inside[0])), len(v))
	copy(out, v)
	return out
}

func TestKernelsStayInsideTheirSlices(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, atEnd := range []bool{true, false} {
			for _, s := range []shape{{1, 1, 1}, {13, 33, 67}, {12, 32, 8}, {5, 17, 5}, {6, 16, 770}, {11, 31, 3}} {
				t.Run(fmt.Sprintf("%+v %v", s, atEnd), func(t *testing.T) {
					rng := rand.New(rand.NewPCG(21, 22))
					guard := func(n int) []float32 { return guarded(t, random(rng, n), atEnd) }
					x, bias, dst := guard(s.rows*s.in), guard(s.out), guard(s.rows*s.out)
					m := Pack(guard(s.out*s.in), s.out, s.in)
					if current.tiles != nil {
						m.w = guarded(t, m.w, atEnd)
					}
					m.Mul(dst, x, bias, s.rows, 1)

					q := Quantize(guard(s.out*s.in), s.out, s.in)
					m8 := Pack8(Weights8{guarded(t, q.Weights, atEnd), guarded(t, q.Scales, atEnd), guarded(t, q.Sums, atEnd)}, s.out, s.in)
					m8.sums = guarded(t, m8.sums, atEnd)
					var rows Rows
					rows.Quantize(x, s.rows, s.in, 1)
					rows.q = guarded(t, rows.q, atEnd)
					rows.Quantize(x, s.rows, s.in, 1) // now into guarded memory
					rows.scales, rows.zeros = guarded(t, rows.scales, atEnd), guarded(t, rows.zeros, atEnd)
					m8.Mul(dst, &rows, bias, 1)

					n := s.rows * s.in
					Add(x, guard(n))
					GELU(x)
					GELUTanh(x)
					Softmax(x)
					LayerNorm(x, guard(n), guard(n), 1e-5)
					Attention(guard(n), guard(n), guard(n), guard(n), s.rows, s.in, s.in, 0.5)
				})
			}
		}
	})
}
