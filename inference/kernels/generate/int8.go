package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Four inputs are a group: as many bytes as VPDPBUSD multiplies and sums up
// for each column.
const (
	groupInputs   = 4
	groupsInALoop = 4
)

// int8Tile is what the INT8 tiles of an instruction set differ in.
type int8Tile struct {
	vectors
	name   string
	rows   int // of the tallest tile
	xBytes int // of an input in the rows of x
	// start makes sums of zero; step adds a group of products, at disp groups
	// from the pointers; finish gives for each row one register of sums for
	// every half of the columns.
	start  func(t int8Tile, rows int) any
	step   func(t int8Tile, sums any, xs rows3, w [2]Mem, group int)
	finish func(sums any, r, half int) reg.VecVirtual
}

// int8Gemm writes one tile of a product of 8-bit matrices and scales it:
// dst = (Σ x·w - zero·colSum)·colScale·rowScale + bias. The sums are exact and
// the rest is in the same order everywhere, so that all levels agree in every
// bit.
func int8Gemm(t int8Tile, rows int) {
	text(fmt.Sprintf("int8%sx%d", t.name, rows),
		"func(dst *float32, dstStride int, x *uint8, xStride int, w *int8, panel, groups, ahead, aheadStep int, rowScale *float32, rowZero *int32, colScale *float32, colSum *int32, bias *float32, cols int)",
		fmt.Sprintf(" is a tile of %d rows and up to %d columns: see int8TileFunc.", rows, t.columns()))
	sums := t.start(t, rows)
	xs := rowPointers("x", "xStride", rows, 1)
	w := [2]Mem{{Base: Load(Param("w"), GP64())}}
	if t.bytes == 64 {
		panel := Load(Param("panel"), GP64())
		ADDQ(w[0].Base, panel)
		w[1] = Mem{Base: panel}
	} else {
		w[1] = w[0].Offset(t.bytes)
	}
	groups := Load(Param("groups"), GP64())
	next := newAhead(w[0].Base)
	steps := func(n int) {
		for i := range n {
			next.fetch()
			t.step(t, sums, xs, [2]Mem{w[0].Offset(panelBytes * i), w[1].Offset(panelBytes * i)}, i)
		}
		xs.advance(t.xBytes * groupInputs * n)
		ADDQ(I32(panelBytes*n), w[0].Base)
		if w[1].Base != w[0].Base {
			ADDQ(I32(panelBytes*n), w[1].Base)
		}
	}
	SUBQ(U8(groupsInALoop), groups)
	JLT(LabelRef("rest"))
	Label("many")
	steps(groupsInALoop)
	SUBQ(U8(groupsInALoop), groups)
	JGE(LabelRef("many"))
	Label("rest")
	ADDQ(U8(groupsInALoop), groups)
	JZ(LabelRef("sums"))
	Label("one")
	steps(1)
	SUBQ(U8(1), groups)
	JNZ(LabelRef("one"))
	Label("sums")

	rowScale, rowZero := Mem{Base: Load(Param("rowScale"), GP64())}, Mem{Base: Load(Param("rowZero"), GP64())}
	colScale, colSum := Mem{Base: Load(Param("colScale"), GP64())}, Mem{Base: Load(Param("colSum"), GP64())}
	bias := Mem{Base: Load(Param("bias"), GP64())}
	newWindow(t.vectors).eachRow(rows, []place{{"dst", "dstStride"}}, func(r, half int, at []Mem, m mover) {
		sum, other := t.finish(sums, r, half), t.new()
		VPBROADCASTD(rowZero.Offset(4*r), other)
		VPMULLD(colSum.Offset(t.bytes*half), other, other)
		VPSUBD(other, sum, sum)
		VCVTDQ2PS(sum, sum)
		VMULPS(colScale.Offset(t.bytes*half), sum, sum)
		VBROADCASTSS(rowScale.Offset(4*r), other)
		VMULPS(other, sum, sum)
		m.load(bias.Offset(t.bytes*half), other)
		VADDPS(other, sum, sum)
		m.store(sum, at[0])
	})
	end()
}

// AVX-512 VNNI.
var int8AVX512 = int8Tile{
	vectors: avx512, name: "AVX512", rows: 12, xBytes: 1,
	start: func(t int8Tile, rows int) any {
		sums := make([][2]reg.VecVirtual, rows)
		for r := range sums {
			sums[r] = [2]reg.VecVirtual{t.zero(), t.zero()}
		}
		return sums
	},
	step: func(t int8Tile, sums any, xs rows3, w [2]Mem, group int) {
		weights := [2]reg.VecVirtual{t.new(), t.new()}
		VMOVUPS(w[0], weights[0])
		VMOVUPS(w[1], weights[1])
		for r, sum := range sums.([][2]reg.VecVirtual) {
			x := t.new()
			VPBROADCASTD(xs.at(r, groupInputs*group), x)
			VPDPBUSD(weights[0], x, sum[0])
			VPDPBUSD(weights[1], x, sum[1])
		}
	},
	finish: func(sums any, r, half int) reg.VecVirtual { return sums.([][2]reg.VecVirtual)[r][half] },
}

// AVX-VNNI, on processors without AVX-512. Go's assembler has VPDPBUSD in its
// AVX-512 encoding only, so the instruction is written in bytes and the
// registers are fixed.
var int8AVXVNNI = int8Tile{
	vectors: avx2, name: "AVXVNNI", rows: 6, xBytes: 1,
	start: func(_ int8Tile, rows int) any {
		for _, y := range vnniSums[:2*rows] {
			VPXOR(y, y, y)
		}
		return rows
	},
	step: func(_ int8Tile, rows any, xs rows3, w [2]Mem, group int) {
		weights, x := [2]reg.VecPhysical{reg.Y12, reg.Y13}, reg.Y14
		VMOVDQU(w[0], weights[0])
		VMOVDQU(w[1], weights[1])
		for r := range rows.(int) {
			VPBROADCASTD(xs.at(r, groupInputs*group), x)
			vexVPDPBUSD(weights[0], x, vnniSums[2*r])
			vexVPDPBUSD(weights[1], x, vnniSums[2*r+1])
		}
	},
	finish: func(_ any, r, half int) reg.VecVirtual {
		sum := YMM()
		VMOVDQA(vnniSums[2*r+half], sum)
		return sum
	},
}

var vnniSums = []reg.VecPhysical{
	reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11,
}

// vexVPDPBUSD is VPDPBUSD of three ymm registers, VEX.256.66.0F38.W0 50 /r
// (Intel SDM, volume 2), operands in Go's order: sum += x (unsigned) · w (signed).
func vexVPDPBUSD(w, x, sum reg.VecPhysical) {
	dst, src1, src2 := byte(sum.PhysicalIndex()), byte(x.PhysicalIndex()), byte(w.PhysicalIndex())
	bytes := []byte{
		0xC4,
		^(dst>>3)&1<<7 | 1<<6 | ^(src2>>3)&1<<5 | 0x02, // R̄ X̄ B̄, map 0F38
		^src1&15<<3 | 1<<2 | 0x01,                      // W, v̄v̄v̄v̄, 256 bits, prefix 66
		0x50,
		0xC0 | dst&7<<3 | src2&7,
	}
	Comment("VPDPBUSD " + w.Asm() + ", " + x.Asm() + ", " + sum.Asm())
	for i, b := range bytes {
		in := &ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(b)}}
		if i == 0 {
			in.Inputs, in.Outputs = []Op{w, x, sum}, []Op{sum}
		}
		Instruction(in)
	}
}

// AVX2 has no product of bytes that cannot overflow: VPMADDUBSW saturates sums
// of 16 bits. So the weights are widened as they are loaded, x is 16 bits wide
// already, and VPMADDWD sums up two products: each register holds the two
// halves of a group's sum for four columns.
var int8AVX2 = int8Tile{
	vectors: avx2, name: "AVX2", rows: 3, xBytes: 2,
	start: func(t int8Tile, rows int) any {
		sums := make([][4]reg.VecVirtual, rows)
		for r := range sums {
			sums[r] = [4]reg.VecVirtual{t.zero(), t.zero(), t.zero(), t.zero()}
		}
		return sums
	},
	step: func(t int8Tile, sums any, xs rows3, w [2]Mem, group int) {
		rows := sums.([][4]reg.VecVirtual)
		at := func(r int) Mem { return xs.at(r, 2*groupInputs*group) }
		var x [2]reg.VecVirtual // the third finds no register
		for r := range min(len(rows), len(x)) {
			x[r] = t.new()
			VPBROADCASTQ(at(r), x[r])
		}
		for part := range 4 {
			weights := t.new()
			VPMOVSXBW(w[0].Offset(16*part), weights)
			for r, sum := range rows {
				product := t.new()
				if r < len(x) {
					VPMADDWD(weights, x[r], product)
				} else {
					VPBROADCASTQ(at(r), product)
					VPMADDWD(weights, product, product)
				}
				VPADDD(product, sum[part], sum[part])
			}
		}
	},
	finish: func(sums any, r, half int) reg.VecVirtual {
		parts := sums.([][4]reg.VecVirtual)[r]
		a, b := parts[2*half], parts[2*half+1]
		VPHADDD(b, a, a)
		VPERMQ(U8(0b11_01_10_00), a, a)
		return a
	},
}

// bounds writes the search for the least and the greatest value, 0 among
// them.
func bounds(v vectors) {
	text("bounds"+v.name, "func(x []float32) (low, high float32)", " is the range of x and 0.")
	at, n := slice("x")
	low, high := v.zero(), v.zero()
	v.each("bounds", n, []reg.Register{at}, func(l lanes) {
		x := l.load(0)
		VMINPS(low, x, low) // in this order, NaN is left out
		VMAXPS(high, x, high)
	})
	least, most := v.fold(low, VMINPS), v.fold(high, VMAXPS)
	Store(least.AsX(), Return("low"))
	Store(most.AsX(), Return("high"))
	end()
}

// quantize writes the rounding of whole registers of x to bytes, or to words
// where a tile wants these.
func quantize(v vectors, name string, xBytes int) {
	text("quantize"+name, "func(dst *uint8, x *float32, n int, inverse float32, zero int32)",
		fmt.Sprintf(" rounds n values, a multiple of %d: see quantizePortable.", v.bytes/4))
	dst, x, n := Load(Param("dst"), GP64()), Load(Param("x"), GP64()), Load(Param("n"), GP64())
	inverse := v.spread(Load(Param("inverse"), XMM()).(reg.VecVirtual))
	zero, none := v.new(), v.zero()
	low := XMM()
	VMOVD(Load(Param("zero"), GP32()), low)
	VPBROADCASTD(low, zero)
	most := v.new()
	VPBROADCASTD(wordConstant(255), most)
	Label("loop")
	q := v.new()
	VMULPS(Mem{Base: x}, inverse, q)
	VCVTPS2DQ(q, q)
	VPADDD(zero, q, q)
	VPMAXSD(none, q, q)
	VPMINSD(most, q, q)
	out := Mem{Base: dst}
	switch {
	case v.bytes == 64:
		VPMOVDB(q, out)
	case xBytes == 2:
		VPACKUSDW(q, q, q)
		VPERMQ(U8(0b10_00), q, q)
		VMOVDQU(q.AsX(), out)
	default:
		VPACKUSDW(q, q, q)
		VPERMQ(U8(0b10_00), q, q)
		VPACKUSWB(q, q, q)
		VMOVQ(q.AsX(), out)
	}
	ADDQ(U8(v.bytes), x)
	ADDQ(U8(v.bytes/4*xBytes), dst)
	SUBQ(U8(v.bytes/4), n)
	JNZ(LabelRef("loop"))
	end()
}
