package main

import (
	"fmt"
	"os"
	"strings"
)

// avo writes no arm64 code, so this file prints it. Instructions that Go's
// assembler lacks are words, encoded as in the Arm Architecture Reference
// Manual for A-profile, C7.2.
const (
	wordSDOT    = 0x4E809400 // Vd.4S += Vn.16B · Vm.16B, by fours
	wordMLS     = 0x6EA09400 // Vd.4S -= Vn.4S × Vm.4S
	wordSCVTF   = 0x4E21D800
	wordFMUL    = 0x6E20DC00
	wordFADD    = 0x4E20D400
	wordFCVTNS  = 0x4E21A800 // rounds to the nearest, ties to even
	wordSQXTUN  = 0x2E612800 // Vd.4H, saturated; with 2, the upper half
	wordSQXTUN2 = 0x6E612800
	wordUQXTN   = 0x2E214800
	wordUQXTN2  = 0x6E214800
)

// neonRows is how tall a tile the 32 registers hold: its sums, four registers
// of 16 columns each, leave eight for weights and x.
const neonRows = 6

type neon struct {
	code, stubs strings.Builder
	params      []string // of the function being written, each of eight bytes
}

func (n *neon) text(name string, params ...string) {
	n.params = params
	list := strings.Join(params, ", ")
	fmt.Fprintf(&n.stubs, "\n//go:noescape\nfunc %s(%s)\n", name, list)
	fmt.Fprintf(&n.code, "\n// func %s(%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", name, list, name, 8*len(params))
}

// param reads a parameter into a register.
func (n *neon) param(name string, register int) {
	for i, p := range n.params {
		if strings.HasPrefix(p, name+" ") {
			n.op("MOVD %s+%d(FP), R%d", name, 8*i, register)
			return
		}
	}
	panic("no parameter " + name)
}

func (n *neon) op(format string, args ...any) { fmt.Fprintf(&n.code, "\t"+format+"\n", args...) }

// word writes an instruction of vector registers, result last.
func (n *neon) word(what string, base int, v ...int) {
	d := v[len(v)-1]
	code := base | v[len(v)-2]<<5 | d
	if len(v) == 3 {
		code |= v[0] << 16
	}
	n.op("WORD $0x%08X // %s %s", code, what, vectorList("", v...))
}

// vectorList names registers, of an arrangement such as .S4.
func vectorList(arrangement string, v ...int) string {
	names := make([]string, len(v))
	for i, r := range v {
		names[i] = fmt.Sprintf("V%d%s", r, arrangement)
	}
	return strings.Join(names, ", ")
}

func four(first int) string {
	return "[" + vectorList(".S4", first, first+1, first+2, first+3) + "]"
}

// sums writes the loop: 64 bytes of weights, four of each row of x, and for
// every row four multiply-adds.
func (n *neon) sums(rows int, stride func(), multiply func(x, w, sum int)) {
	n.param("x", 0)
	n.param("xStride", 6)
	stride()
	for r := 1; r < rows; r++ {
		n.op("ADD R6, R%d, R%d", r-1, r)
	}
	for i := range 4 * rows {
		n.op("VEOR %s", vectorList(".B16", i, i, i))
	}
	n.param("w", 7)
	n.param("k", 8)
	fmt.Fprintf(&n.code, "loop:\n")
	n.op("VLD1.P 64(R7), %s", four(24))
	for r := range rows {
		x := 28 + r%4
		n.op("VLD1R.P 4(R%d), [V%d.S4]", r, x)
		for i := range 4 {
			multiply(x, 24+i, 4*r+i)
		}
	}
	n.op("SUBS $1, R8, R8")
	n.op("BNE loop")
}

func (n *neon) gemm(rows int) {
	n.text(fmt.Sprintf("gemmNEONx%d", rows), "dst *float32", "dstStride int", "from *float32", "fromStride int", "x *float32", "xStride int", "w *float32", "k int")
	n.sums(rows, func() { n.op("LSL $2, R6, R6") }, func(x, w, sum int) {
		n.op("VFMLA %s", vectorList(".S4", x, w, sum))
	})
	n.param("dst", 0)
	n.param("dstStride", 1)
	n.op("LSL $2, R1, R1")
	n.param("from", 2)
	n.param("fromStride", 3)
	n.op("LSL $2, R3, R3")
	for r := range rows {
		n.op("VLD1 (R2), %s", four(24))
		for i := range 4 {
			n.word("FADD", wordFADD, 24+i, 4*r+i, 4*r+i)
		}
		n.op("VST1 %s, (R0)", four(4*r))
		n.op("ADD R1, R0, R0")
		n.op("ADD R3, R2, R2")
	}
	n.op("RET")
}

func (n *neon) int8(rows int) {
	n.text(fmt.Sprintf("int8NEONx%d", rows), "dst *float32", "dstStride int", "x *uint8", "xStride int", "w *int8", "k int",
		"rowScale *float32", "rowZero *int32", "colScale *float32", "colSum *int32", "bias *float32")
	n.sums(rows, func() {}, func(x, w, sum int) { n.word("SDOT", wordSDOT, x, w, sum) })
	for i, p := range []string{"dst", "dstStride", "rowScale", "rowZero", "colScale", "colSum", "bias"} {
		n.param(p, i)
	}
	n.op("LSL $2, R1, R1")
	step := func(base, operand int, each bool, what string) func(r int) {
		return func(r int) {
			for i := range 4 {
				o := operand
				if each {
					o += i
				}
				n.word(what, base, o, 4*r+i, 4*r+i)
			}
		}
	}
	for r := range rows {
		n.op("VLD1R.P 4(R3), [V28.S4]")
		n.op("VLD1 (R5), %s", four(24))
		for i := range 4 {
			n.word("MLS", wordMLS, 28, 24+i, 4*r+i)
		}
		for i := range 4 {
			n.word("SCVTF", wordSCVTF, 4*r+i, 4*r+i)
		}
		n.op("VLD1 (R4), %s", four(24))
		step(wordFMUL, 24, true, "FMUL")(r)
		n.op("VLD1R.P 4(R2), [V28.S4]")
		step(wordFMUL, 28, false, "FMUL")(r)
		n.op("VLD1 (R6), %s", four(24))
		step(wordFADD, 24, true, "FADD")(r)
		n.op("VST1 %s, (R0)", four(4*r))
		n.op("ADD R1, R0, R0")
	}
	n.op("RET")
}

// quantize rounds 16 values in a turn. The bytes are shifted by 128: SDOT
// takes both factors with a sign.
func (n *neon) quantize() {
	n.text("quantizeNEON", "dst *uint8", "x *float32", "n int", "constants *[3]uint32")
	n.param("dst", 0)
	n.param("x", 1)
	n.param("n", 2)
	n.param("constants", 3)
	for v := 16; v < 19; v++ { // inverse, zero, 0x80808080
		n.op("VLD1R.P 4(R3), [V%d.S4]", v)
	}
	fmt.Fprintf(&n.code, "loop:\n")
	n.op("VLD1.P 64(R1), %s", four(0))
	for i := range 4 {
		n.word("FMUL", wordFMUL, 16, i, i)
		n.word("FCVTNS", wordFCVTNS, i, i)
		n.op("VADD %s", vectorList(".S4", 17, i, i))
	}
	for i := range 2 {
		n.word("SQXTUN", wordSQXTUN, 2*i, 4+i)
		n.word("SQXTUN2", wordSQXTUN2, 2*i+1, 4+i)
	}
	n.word("UQXTN", wordUQXTN, 4, 6)
	n.word("UQXTN2", wordUQXTN2, 5, 6)
	n.op("VEOR %s", vectorList(".B16", 18, 6, 6))
	n.op("VST1.P [V6.B16], 16(R0)")
	n.op("SUBS $16, R2, R2")
	n.op("BNE loop")
	n.op("RET")
}

// dispatch writes a function that calls the tile of so many rows. Through a
// slice of functions, the compiler could not see that pointers do not escape.
func (n *neon) dispatch(name, params, args string) {
	fmt.Fprintf(&n.stubs, "\nfunc %s(rows int, %s) {\n\tswitch rows {\n", name, params)
	for r := 1; r <= neonRows; r++ {
		fmt.Fprintf(&n.stubs, "\tcase %d:\n\t\t%sx%d(%s)\n", r, name, r, args)
	}
	fmt.Fprintf(&n.stubs, "\t}\n}\n")
}

// writeNEON writes the files for arm64.
func writeNEON(code, stubs string) error {
	n := new(neon)
	const head = "// Code generated by go generate, from generate/neon.go. DO NOT EDIT.\n\n"
	n.code.WriteString(head + "#include \"textflag.h\"\n")
	n.stubs.WriteString(head + "package kernels\n")
	for rows := 1; rows <= neonRows; rows++ {
		n.gemm(rows)
	}
	for rows := 1; rows <= neonRows; rows++ {
		n.int8(rows)
	}
	n.quantize()
	n.dispatch("gemmNEON", "dst *float32, dstStride int, from *float32, fromStride int, x *float32, xStride int, w *float32, k int",
		"dst, dstStride, from, fromStride, x, xStride, w, k")
	n.dispatch("int8NEON", "dst *float32, dstStride int, x *uint8, xStride int, w *int8, k int, rowScale *float32, rowZero *int32, colScale *float32, colSum *int32, bias *float32",
		"dst, dstStride, x, xStride, w, k, rowScale, rowZero, colScale, colSum, bias")
	for name, text := range map[string]string{code: n.code.String(), stubs: n.stubs.String()} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil { //nolint:gosec // source code
			return err
		}
	}
	return nil
}
