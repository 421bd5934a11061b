package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unrolled is how many inputs a turn of gemm's loop takes.
const unrolled = 4

// gemm writes one tile of a matrix product, rows×columns sums over k inputs:
// dst = x·w + from. Each input costs two loads of weights, a broadcast of x
// per row, and two multiply-adds per row, so that the multipliers are the
// bottleneck.
func gemm(v vectors, rows int) {
	text(fmt.Sprintf("gemm%sx%d", v.name, rows),
		"func(dst *float32, dstStride int, from *float32, fromStride int, x *float32, xStride int, w *float32, panel, k, ahead, aheadStep, cols int)",
		fmt.Sprintf(" is a tile of %d rows and up to %d columns: see tileFunc.", rows, v.columns()))

	sums := make([][2]reg.VecVirtual, rows)
	for r := range sums {
		sums[r] = [2]reg.VecVirtual{v.zero(), v.zero()}
	}
	xs := rowPointers("x", "xStride", rows, 4)
	w := [2]Mem{{Base: Load(Param("w"), GP64())}}
	next := newAhead(w[0].Base)
	if v.bytes == 64 { // a panel for each register
		panel := Load(Param("panel"), GP64())
		second := GP64()
		LEAQ(Mem{Base: w[0].Base, Index: panel, Scale: 4}, second)
		w[1] = Mem{Base: second}
		next.at = append(next.at, Mem{Base: next.at[0].Base, Index: panel, Scale: 4})
	} else { // two registers for a panel
		w[1] = w[0].Offset(v.bytes)
	}
	k := Load(Param("k"), GP64())
	step := func(n int) {
		for i := range n {
			next.fetch()
			weights := [2]reg.VecVirtual{v.new(), v.new()}
			VMOVUPS(w[0].Offset(panelBytes*i), weights[0])
			VMOVUPS(w[1].Offset(panelBytes*i), weights[1])
			for r := range rows {
				x := v.new()
				VBROADCASTSS(xs.at(r, 4*i), x)
				VFMADD231PS(weights[0], x, sums[r][0])
				VFMADD231PS(weights[1], x, sums[r][1])
			}
		}
		xs.advance(4 * n)
		ADDQ(I32(panelBytes*n), w[0].Base)
		if w[1].Base != w[0].Base {
			ADDQ(I32(panelBytes*n), w[1].Base)
		}
	}
	SUBQ(U8(unrolled), k)
	JLT(LabelRef("rest"))
	Label("four")
	step(unrolled)
	SUBQ(U8(unrolled), k)
	JGE(LabelRef("four"))
	Label("rest")
	ADDQ(U8(unrolled), k)
	JZ(LabelRef("sums"))
	Label("one")
	step(1)
	SUBQ(U8(1), k)
	JNZ(LabelRef("one"))
	Label("sums")
	places := []place{{"dst", "dstStride"}, {"from", "fromStride"}}
	newWindow(v).eachRow(rows, places, func(r, half int, at []Mem, m mover) {
		from := v.new()
		m.load(at[1], from)
		VADDPS(from, sums[r][half], sums[r][half])
		m.store(sums[r][half], at[0])
	})
	end()
}

// An ahead fetches weights for later tiles into the second-level cache, a few
// bytes at every step, so that they come while this tile computes.
type ahead struct {
	at   []Mem
	step reg.Register
}

// newAhead reads how far from w they lie, and how many bytes a step is.
func newAhead(w reg.Register) ahead {
	a := ahead{[]Mem{{Base: Load(Param("ahead"), GP64())}}, Load(Param("aheadStep"), GP64())}
	ADDQ(w, a.at[0].Base)
	return a
}

func (a ahead) fetch() {
	for _, m := range a.at {
		PREFETCHT1(m)
	}
	ADDQ(a.step, a.at[0].Base)
}

// panelBytes is one input's weights in a panel: 16 columns of float32.
const panelBytes = 64

// rows3 addresses many rows with a pointer to every third one.
type rows3 struct {
	bases  []reg.Register
	stride reg.Register
}

// rowPointers reads a pointer and a stride, in values of some bytes.
func rowPointers(pointer, stride string, rows, bytes int) rows3 {
	p := rows3{stride: Load(Param(stride), GP64())}
	if bytes == 4 {
		SHLQ(U8(2), p.stride)
	}
	p.bases = append(p.bases, Load(Param(pointer), GP64()))
	for r := 3; r < rows; r += 3 {
		next := GP64()
		LEAQ(Mem{Base: p.bases[len(p.bases)-1], Index: p.stride, Scale: 2}, next)
		ADDQ(p.stride, next)
		p.bases = append(p.bases, next)
	}
	return p
}

func (p rows3) at(r, disp int) Mem {
	m := Mem{Base: p.bases[r/3], Disp: disp}
	if r%3 > 0 {
		m.Index, m.Scale = p.stride, uint8(r%3)
	}
	return m
}

func (p rows3) advance(bytes int) {
	for _, b := range p.bases {
		ADDQ(I32(bytes), b)
	}
}
