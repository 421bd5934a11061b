package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lanes goes over slices of float32, a register at a time. The last turn has
// fewer values; what lies beyond them is neither read nor written.
type lanes struct {
	vectors
	pointers []reg.Register
	mask     reg.Register // nil for a whole register
}

// each calls body once for whole registers, in a loop over n values, and once
// for the rest. It moves the pointers and uses up n.
func (v vectors) each(label string, n reg.Register, pointers []reg.Register, body func(l lanes)) {
	count := v.bytes / 4
	l := lanes{vectors: v, pointers: pointers}
	SUBQ(U8(count), n)
	JLT(LabelRef(label + "_rest"))
	Label(label + "_loop")
	body(l)
	for _, p := range pointers {
		ADDQ(U8(v.bytes), p)
	}
	SUBQ(U8(count), n)
	JGE(LabelRef(label + "_loop"))
	Label(label + "_rest")
	ADDQ(U8(count), n)
	JZ(LabelRef(label + "_done"))
	l.mask = v.first(n)
	body(l)
	Label(label + "_done")
}

// first makes a mask of the first n lanes; n is used up.
func (v vectors) first(n reg.Register) reg.Register {
	if v.bytes == 64 {
		bits, mask := GP32(), K()
		MOVL(U32(1<<32-1), bits)
		SHLXL(n.(reg.GPVirtual).As32(), bits, bits)
		NOTL(bits)
		KMOVW(bits, mask)
		return mask
	}
	table, mask := GP64(), YMM()
	LEAQ(columnMasks(), table)
	NEGQ(n)
	VMOVDQU(Mem{Base: table, Index: n, Scale: 4, Disp: 64}, mask)
	return mask
}

// load reads the values at a pointer; missing ones are 0.
func (l lanes) load(pointer int) reg.VecVirtual {
	r, at := l.new(), Mem{Base: l.pointers[pointer]}
	switch {
	case l.mask == nil:
		VMOVUPS(at, r)
	case l.bytes == 64:
		VMOVUPS_Z(at, l.mask, r)
	default:
		VMASKMOVPS(at, l.mask, r)
	}
	return r
}

func (l lanes) store(r reg.Register, pointer int) {
	at := Mem{Base: l.pointers[pointer]}
	switch {
	case l.mask == nil:
		VMOVUPS(r, at)
	case l.bytes == 64:
		VMOVUPS(r, l.mask, at)
	default:
		VMASKMOVPS(r, l.mask, at)
	}
}

// clear makes missing values 0.
func (l lanes) clear(r reg.Register) {
	switch {
	case l.mask == nil:
	case l.bytes == 64:
		VMOVUPS_Z(r, l.mask, r)
	default:
		VANDPS(l.mask, r, r)
	}
}

// fill makes missing values those of other.
func (l lanes) fill(r, other reg.Register) {
	switch {
	case l.mask == nil:
	case l.bytes == 64:
		VBLENDMPS(r, other, l.mask, r)
	default:
		VBLENDVPS(l.mask, r, other, r)
	}
}

func (v vectors) zero() reg.VecVirtual {
	r := v.new()
	if v.bytes == 64 {
		VPXORQ(r, r, r)
	} else {
		VXORPS(r, r, r)
	}
	return r
}

// constant broadcasts a number.
func (v vectors) constant(x float32) reg.VecVirtual {
	r := v.new()
	VBROADCASTSS(constant(x), r)
	return r
}

// spread broadcasts the first value of a register.
func (v vectors) spread(x reg.VecVirtual) reg.VecVirtual {
	r := v.new()
	VBROADCASTSS(x.AsX(), r)
	return r
}

// fold combines all values of r in the first of the result.
func (v vectors) fold(r reg.VecVirtual, combine func(ops ...Op)) reg.VecVirtual {
	if v.bytes == 64 {
		high := YMM()
		VEXTRACTF64X4(U8(1), r, high)
		combine(high, r.AsY(), high)
		r = high
	}
	high := XMM()
	VEXTRACTF128(U8(1), r.AsY(), high)
	combine(high, r.AsX(), high)
	low := XMM()
	VMOVHLPS(high, high, low)
	combine(low, high, high)
	VMOVSHDUP(high, low)
	combine(low, high, high)
	return high
}
