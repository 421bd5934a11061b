package kernels

import (
	"math"
	"runtime"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// levels: NEON is part of every arm64 processor. Its product of bytes (SDOT)
// came with Armv8.2 as an option; macOS does not say, but all its processors
// have it.
func levels() []*level {
	supported := []*level{&portable, &neon}
	if cpu.ARM64.HasASIMDDP || runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		l := neon
		l.name = "neondot"
		l.tiles8, l.columns8, l.signed = int8TilesNEON, panelColumns, true
		l.quantize, l.quantizeStep = quantizeSigned, 16
		supported = append(supported, &l)
	}
	return supported
}

// neon has portable kernels for all but matrices: they take most of the time.
var neon = func() level {
	l := portable
	l.name, l.columns = "neon", panelColumns
	for rows := 1; rows <= neonRows; rows++ {
		l.tiles = append(l.tiles, gemmTileNEON(rows))
	}
	return l
}()

const neonRows = 6

// The kernels for NEON write whole rows of a tile. Where there are fewer
// columns, they do that beside the destination.

func gemmTileNEON(rows int) tileFunc {
	return func(dst *float32, dstStride int, from *float32, fromStride int, x *float32, xStride int, w *float32, _, k, _, _, cols int) {
		if cols == panelColumns {
			gemmNEON(rows, dst, dstStride, from, fromStride, x, xStride, w, k)
			return
		}
		var tile, start [neonRows * panelColumns]float32
		for r := range rows {
			copy(start[r*panelColumns:], values(from, r*fromStride, cols))
		}
		gemmNEON(rows, &tile[0], panelColumns, &start[0], panelColumns, x, xStride, w, k)
		for r := range rows {
			copy(values(dst, r*dstStride, cols), tile[r*panelColumns:])
		}
	}
}

var int8TilesNEON = func() (tiles []int8TileFunc) {
	for rows := 1; rows <= neonRows; rows++ {
		tiles = append(tiles, int8TileNEON(rows))
	}
	return tiles
}()

func int8TileNEON(rows int) int8TileFunc {
	return func(dst *float32, dstStride int, x *uint8, xStride int, w *int8, _, groups, _, _ int, rowScale *float32, rowZero *int32, colScale *float32, colSum *int32, bias *float32, cols int) {
		if cols == panelColumns {
			int8NEON(rows, dst, dstStride, x, xStride, w, groups, rowScale, rowZero, colScale, colSum, bias)
			return
		}
		var tile [neonRows * panelColumns]float32
		var start [panelColumns]float32
		copy(start[:], values(bias, 0, cols))
		int8NEON(rows, &tile[0], panelColumns, x, xStride, w, groups, rowScale, rowZero, colScale, colSum, &start[0])
		for r := range rows {
			copy(values(dst, r*dstStride, cols), tile[r*panelColumns:])
		}
	}
}

// quantizeSigned is quantize with the bytes shifted by 128.
func quantizeSigned(dst *uint8, x *float32, n int, inverse float32, zero int32) {
	quantizeNEON(dst, x, n, &[3]uint32{math.Float32bits(inverse), uint32(zero), 0x80808080})
}

// values are n values at a distance from a pointer.
func values(p *float32, at, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(p), 4*at)), n)
}
