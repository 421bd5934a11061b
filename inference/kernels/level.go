package kernels

import (
	"fmt"
	"os"
	"strings"
)

// LevelVariable is the environment variable that forces a level, for tests
// and for comparisons.
const LevelVariable = "CADDY_INFER_KERNELS"

// A level is a set of kernels for one instruction set.
type level struct {
	name string
	// tiles by their number of rows less one, each of up to columns columns.
	// Without any, matrices are multiplied in portable Go.
	tiles   []tileFunc
	columns int

	// tiles8 are the same for 8 bits, of up to columns8 columns. wide says
	// that they want rows of 16-bit values.
	tiles8   []int8TileFunc
	columns8 int
	wide     bool
	// signed says that they want bytes shifted by 128, zero points too.
	signed bool
	// quantize rounds n values, a multiple of quantizeStep, as roundByte
	// does; nil where there is only that.
	quantize     func(dst *uint8, x *float32, n int, inverse float32, zero int32)
	quantizeStep int
	// bounds is the range of the values and 0.
	bounds func(x []float32) (low, high float32)

	add            func(dst, x []float32)
	gelu, geluTanh func(x []float32)
	softmax        func(x []float32, scale float32)               // of scale·x; at least one value
	layerNorm      func(x, gain, bias []float32, epsilon float32) // one row
}

// tileFunc computes one tile of a matrix product, as many rows as it is for:
// dst[r][c] = Σ x[r][i]·w[i][c] + from[r][c] for the first cols columns and k
// inputs. Strides, in values, lead from row to row; a fromStride of 0 adds
// the same to all rows, such as the bias. w holds panelColumns columns for
// each input; the columns after those are panel values further on. Weights
// that later tiles need are ahead bytes from w, in panels of the same distance:
// for each input, a tile may have the processor fetch aheadStep bytes of them.
// Fetching never faults.
type tileFunc = func(dst *float32, dstStride int, from *float32, fromStride int, x *float32, xStride int, w *float32, panel, k, ahead, aheadStep, cols int)

// int8TileFunc computes one tile of a product of 8-bit matrices:
// dst[r][c] = (Σ x[r][i]·w[i][c] - rowZero[r]·colSum[c])·colScale[c]·rowScale[r] + bias[c]
// with every step of the scaling rounded by itself. xStride is in bytes and
// panel, from one panel of w to the next, too; colScale and colSum are as
// long as a tile is wide. ahead and aheadStep are as for tileFunc, a step for
// each group, but of one stretch of memory.
type int8TileFunc = func(dst *float32, dstStride int, x *uint8, xStride int, w *int8, panel, groups, ahead, aheadStep int, rowScale *float32, rowZero *int32, colScale *float32, colSum *int32, bias *float32, cols int)

var portable = level{
	name:      "portable",
	add:       addPortable,
	gelu:      geluPortable,
	geluTanh:  geluTanhPortable,
	softmax:   softmaxPortable,
	layerNorm: layerNormPortable,
	bounds:    boundsPortable,
}

// current is the level of this process, and warning what there is to say
// about how it was chosen.
var current, warning = choose(os.Getenv(LevelVariable), levels())

// choose takes the last of the supported levels, which are in ascending
// order, or the one of that name.
func choose(name string, supported []*level) (*level, string) {
	best := supported[len(supported)-1]
	if name == "" {
		return best, ""
	}
	names := make([]string, len(supported))
	for i, l := range supported {
		if l.name == name {
			return l, ""
		}
		names[i] = l.name
	}
	return best, fmt.Sprintf("%s=%q: this processor has %s; using %s", LevelVariable, name, strings.Join(names, ", "), best.name)
}

// Level is the name of the kernels in use: portable, or that of an
// instruction set.
func Level() string { return current.name }

// Warning says what was wrong with the level that LevelVariable asked for;
// empty if nothing was.
func Warning() string { return warning }
