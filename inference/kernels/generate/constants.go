package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var constants = map[uint32]Mem{}

// constant keeps a number beside the code.
func constant(x float32) Mem { return wordConstant(math.Float32bits(x)) }

func wordConstant(bits uint32) Mem {
	m, ok := constants[bits]
	if !ok {
		m = ConstData(fmt.Sprintf("word%08x", bits), U32(bits))
		constants[bits] = m
	}
	return m
}

// horner evaluates a polynomial at u, highest coefficient first, in dst.
func (v vectors) horner(coefficients []float32, u Op) reg.VecVirtual {
	p := v.constant(coefficients[0])
	for _, c := range coefficients[1:] {
		VFMADD213PS(v.constant(c), u, p)
	}
	return p
}

// exp replaces x, which must not be above 88, by eˣ, with the range reduction
// and the polynomial of the Cephes library (expf.c): relative error below
// 2e-7. Below -87.3, where a float32 loses digits, it is at most 1.2e-38.
func (v vectors) exp(x reg.Register) {
	VMAXPS(x, v.constant(-87.33654), x) // in this order, NaN stays
	n := v.new()
	VMULPS(v.constant(math.Log2E), x, n)
	if v.bytes == 64 {
		VRNDSCALEPS(U8(0), n, n)
	} else {
		VROUNDPS(U8(0), n, n)
	}
	const high, low = 0.693359375, -2.12194440e-4 // their sum is ln 2
	VFNMADD231PS(v.constant(high), n, x)
	VFNMADD231PS(v.constant(low), n, x)
	p := v.horner([]float32{
		1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
	}, x)
	square := v.new()
	VMULPS(x, x, square)
	VFMADD213PS(x, square, p) // p·x² + x
	VADDPS(v.constant(1), p, x)
	if v.bytes == 64 {
		VSCALEFPS(n, x, x)
		return
	}
	VCVTPS2DQ(n, n) // added to the exponent
	VPSLLD(U8(23), n, n)
	VPADDD(n, x, x)
}
