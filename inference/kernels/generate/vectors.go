package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// vectors is an instruction set: how wide its registers are and how tall a
// tile they hold.
type vectors struct {
	name  string
	bytes int // of a register
	rows  int // of the tallest tile: its sums, 2×rows, leave room for two weights and an x
	new   func() reg.VecVirtual
}

var (
	avx2   = vectors{"AVX2", 32, 6, YMM}
	avx512 = vectors{"AVX512", 64, 12, ZMM}
)

// columns is the width of a tile: two registers of float32.
func (v vectors) columns() int { return 2 * v.bytes / 4 }

// A window moves the two registers of a tile's row from and to memory without
// touching what lies beyond its columns.
type window struct {
	vectors
	cols  reg.Register    // AVX2
	masks [2]reg.Register // AVX-512
}

// newWindow takes the number of columns, 1 to v.columns(), from the parameter
// cols.
func newWindow(v vectors) window {
	cols := Load(Param("cols"), GP64())
	if v.bytes == 32 {
		return window{vectors: v, cols: cols}
	}
	bits, unused := GP32(), GP64()
	MOVL(U32(1<<32-1), bits)
	MOVQ(U32(32), unused)
	SUBQ(cols, unused)
	SHRXL(unused.As32(), bits, bits)
	w := window{vectors: v, masks: [2]reg.Register{K(), K()}}
	KMOVW(bits, w.masks[0])
	SHRL(U8(16), bits)
	KMOVW(bits, w.masks[1])
	return w
}

// eachRow calls move for the rows of a tile, whose first lies at the pointer
// of one parameter and whose others follow at the distance, in values, of
// another. whole says that a row is as wide as the tile.
func (w window) eachRow(pointer, stride, label string, rows int, move func(r int, at [2]Mem, masks [2]reg.Register, whole bool)) {
	walk := func(masks [2]reg.Register, whole bool) {
		at, step := Load(Param(pointer), GP64()), Load(Param(stride), GP64())
		SHLQ(U8(2), step)
		for r := range rows {
			move(r, [2]Mem{{Base: at}, {Base: at, Disp: w.bytes}}, masks, whole)
			if r < rows-1 {
				ADDQ(step, at)
			}
		}
	}
	if w.bytes == 64 {
		walk(w.masks, false)
		return
	}
	// VMASKMOVPS is slow on some processors: whole rows do without.
	CMPQ(w.cols, U8(w.columns()))
	JNE(LabelRef(label + "_some"))
	walk([2]reg.Register{}, true)
	JMP(LabelRef(label + "_done"))
	Label(label + "_some")
	// The masks are read from ones followed by zeros, so that as many ones
	// as there are columns come first.
	table, masks := GP64(), [2]reg.Register{YMM(), YMM()}
	LEAQ(columnMasks(), table)
	skipped := GP64()
	MOVQ(U32(w.columns()), skipped)
	SUBQ(w.cols, skipped)
	for i, m := range masks {
		VMOVDQU(Mem{Base: table, Index: skipped, Scale: 4, Disp: 32 * i}, m)
	}
	walk(masks, false)
	Label(label + "_done")
}

var columnMasksMem *Mem

func columnMasks() Mem {
	if columnMasksMem == nil {
		m := GLOBL("columnMasks", RODATA|NOPTR)
		columnMasksMem = &m
		for i := range 16 {
			DATA(4*i, U32(1<<32-1))
		}
		for i := range 16 {
			DATA(4*(16+i), U32(0))
		}
	}
	return *columnMasksMem
}

func (w window) load(pointer, stride, label string, rows int, into func(r, half int) reg.VecVirtual) {
	w.eachRow(pointer, stride, label, rows, func(r int, at [2]Mem, masks [2]reg.Register, whole bool) {
		for half := range 2 {
			switch {
			case whole:
				VMOVUPS(at[half], into(r, half))
			case w.bytes == 64:
				VMOVUPS_Z(at[half], masks[half], into(r, half))
			default:
				VMASKMOVPS(at[half], masks[half], into(r, half))
			}
		}
	})
}

func (w window) store(pointer, stride, label string, rows int, from func(r, half int) reg.VecVirtual) {
	w.eachRow(pointer, stride, label, rows, func(r int, at [2]Mem, masks [2]reg.Register, whole bool) {
		for half := range 2 {
			switch {
			case whole:
				VMOVUPS(from(r, half), at[half])
			case w.bytes == 64:
				VMOVUPS(from(r, half), masks[half], at[half])
			default:
				VMASKMOVPS(from(r, half), masks[half], at[half])
			}
		}
	})
}
