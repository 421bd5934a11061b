package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// slice reads a parameter that is a slice.
func slice(name string) (pointer, n reg.Register) {
	return Load(Param(name).Base(), GP64()), Load(Param(name).Len(), GP64())
}

func text(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Doc(name + doc)
	Pragma("noescape")
}

func end() {
	VZEROUPPER()
	RET()
}

func add(v vectors) {
	text("add"+v.name, "func(dst, x []float32)", " is Add.")
	dst, n := slice("dst")
	x, _ := slice("x")
	v.each("sum", n, []reg.Register{dst, x}, func(l lanes) {
		sum := l.load(0)
		VADDPS(l.load(1), sum, sum)
		l.store(sum, 0)
	})
	end()
}

// The distribution function of the normal distribution is taken as
// ½ + x·p(x²)/q(x²) up to ±5.5 and as 0 or 1 beyond, with an error below
// 2e-7. The coefficients are a minimax fit, by iteratively reweighted least
// squares at 4,000 Chebyshev nodes.
const normalRange = 5.5

var (
	normalP = []float32{2.2749969e-08, 6.3520624e-06, 1.6881787e-4, 4.6772123e-3, 3.385188e-2, 0.39894223}
	normalQ = []float32{1.1975176e-06, 7.3645e-05, 1.8844003e-3, 2.8645432e-2, 0.25152, 1}
)

func gelu(v vectors) {
	text("gelu"+v.name, "func(x []float32)", " is GELU.")
	at, n := slice("x")
	v.each("gelu", n, []reg.Register{at}, func(l lanes) {
		x, near := l.load(0), v.new()
		VMINPS(v.constant(normalRange), x, near)
		VMAXPS(v.constant(-normalRange), near, near)
		square := v.new()
		VMULPS(near, near, square)
		p := v.horner(normalP, square)
		VDIVPS(v.horner(normalQ, square), p, p)
		VFMADD213PS(v.constant(0.5), near, p)
		VMULPS(x, p, p)
		// Far below, the little that is left of p would be times a large x.
		const lessThan = 1
		if v.bytes == 64 {
			below := K()
			VCMPPS(U8(lessThan), v.constant(-normalRange), x, below)
			VPXORD(p, p, below, p)
		} else {
			below := v.new()
			VCMPPS(U8(lessThan), v.constant(-normalRange), x, below)
			VANDNPS(p, below, p)
		}
		l.store(p, 0)
	})
	end()
}

// geluTanh is x·σ(2u), which is ½x·(1 + tanh u), for u = √(2/π)·(x + 0.044715x³).
func geluTanh(v vectors) {
	text("geluTanh"+v.name, "func(x []float32)", " is GELUTanh.")
	at, n := slice("x")
	v.each("gelu", n, []reg.Register{at}, func(l lanes) {
		const c = -2 * 0.7978845608028654
		x, u := l.load(0), v.new()
		VMULPS(x, x, u)
		VMULPS(v.constant(0.044715*c), u, u)
		VADDPS(v.constant(c), u, u)
		VMULPS(x, u, u)
		VMINPS(u, v.constant(87), u) // in this order, NaN stays
		v.exp(u)
		VADDPS(v.constant(1), u, u)
		VDIVPS(u, x, x)
		l.store(x, 0)
	})
	end()
}

func softmax(v vectors) {
	text("softmax"+v.name, "func(x []float32, scale float32)", " is Softmax for at least one value.")
	scale := v.spread(Load(Param("scale"), XMM()).(reg.VecVirtual))
	at, n := slice("x")
	peak := v.new()
	VBROADCASTSS(Mem{Base: at}, peak)
	v.each("peak", n, []reg.Register{at}, func(l lanes) {
		x := l.load(0)
		l.fill(x, peak)
		VMAXPS(x, peak, peak)
	})
	peak = v.spread(v.fold(peak, VMAXPS))
	VMULPS(scale, peak, peak)

	at, n = slice("x")
	sum := v.zero()
	v.each("exp", n, []reg.Register{at}, func(l lanes) {
		x := l.load(0)
		VFMSUB213PS(peak, scale, x)
		v.exp(x)
		l.store(x, 0)
		l.clear(x)
		VADDPS(x, sum, sum)
	})
	total := v.fold(sum, VADDPS)
	one := XMM()
	VMOVSS(constant(1), one)
	VDIVSS(total, one, one)
	inverse := v.spread(one)

	at, n = slice("x")
	v.each("divide", n, []reg.Register{at}, func(l lanes) {
		x := l.load(0)
		VMULPS(inverse, x, x)
		l.store(x, 0)
	})
	end()
}

func layerNorm(v vectors) {
	text("layerNorm"+v.name, "func(x, gain, bias []float32, epsilon float32)", " is LayerNorm for one row.")
	count := func() reg.VecVirtual {
		_, n := slice("x")
		c := XMM()
		VXORPS(c, c, c)
		VCVTSI2SSQ(n, c, c)
		return c
	}
	at, n := slice("x")
	sum := v.zero()
	v.each("sum", n, []reg.Register{at}, func(l lanes) {
		VADDPS(l.load(0), sum, sum)
	})
	total := v.fold(sum, VADDPS)
	VDIVSS(count(), total, total)
	mean := v.spread(total)

	at, n = slice("x")
	squares := v.zero()
	v.each("squares", n, []reg.Register{at}, func(l lanes) {
		d := l.load(0)
		VSUBPS(mean, d, d)
		l.clear(d)
		VFMADD231PS(d, d, squares)
	})
	variance := v.fold(squares, VADDPS)
	VDIVSS(count(), variance, variance)
	VADDSS(Load(Param("epsilon"), XMM()), variance, variance)
	VSQRTSS(variance, variance, variance)
	one := XMM()
	VMOVSS(constant(1), one)
	VDIVSS(variance, one, one)
	scale := v.spread(one)

	at, n = slice("x")
	gain, _ := slice("gain")
	bias, _ := slice("bias")
	v.each("norm", n, []reg.Register{at, gain, bias}, func(l lanes) {
		x := l.load(0)
		VSUBPS(mean, x, x)
		VMULPS(scale, x, x)
		VFMADD213PS(l.load(2), l.load(1), x)
		l.store(x, 0)
	})
	end()
}
