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

// A place is where a tile's first row lies, and how many values further on
// each next one does: the names of two parameters.
type place struct{ pointer, stride string }

// eachRow calls move with the halves of each row of a tile, at every place.
func (w window) eachRow(rows int, places []place, move func(r, half int, at []Mem, m mover)) {
	walk := func(masks [2]reg.Register) {
		at, steps := make([]Mem, len(places)), make([]reg.Register, len(places))
		for i, p := range places {
			at[i], steps[i] = Mem{Base: Load(Param(p.pointer), GP64())}, Load(Param(p.stride), GP64())
			SHLQ(U8(2), steps[i])
		}
		for r := range rows {
			for half := range 2 {
				here := make([]Mem, len(at))
				for i, m := range at {
					here[i] = m.Offset(w.bytes * half)
				}
				move(r, half, here, mover{w.bytes, masks[half]})
			}
			for i := range at {
				if r < rows-1 {
					ADDQ(steps[i], at[i].Base)
				}
			}
		}
	}
	if w.bytes == 64 {
		walk(w.masks)
		return
	}
	// VMASKMOVPS is slow on some processors: whole rows do without.
	CMPQ(w.cols, U8(w.columns()))
	JNE(LabelRef("some_columns"))
	walk([2]reg.Register{})
	JMP(LabelRef("stored"))
	Label("some_columns")
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
	walk(masks)
	Label("stored")
}

// A mover moves a register under a mask, if there is one.
type mover struct {
	bytes int
	mask  reg.Register
}

func (m mover) load(at Mem, into reg.Register) {
	switch {
	case m.mask == nil:
		VMOVUPS(at, into)
	case m.bytes == 64:
		VMOVUPS_Z(at, m.mask, into)
	default:
		VMASKMOVPS(at, m.mask, into)
	}
}

func (m mover) store(from reg.Register, at Mem) {
	switch {
	case m.mask == nil:
		VMOVUPS(from, at)
	case m.bytes == 64:
		VMOVUPS(from, m.mask, at)
	default:
		VMASKMOVPS(from, m.mask, at)
	}
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
