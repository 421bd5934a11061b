package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// scaleSuffix names the companion of an I8 tensor.
const scaleSuffix = ".scale"

// Float32s returns the elements in row-major order. F32 is not copied where
// the data are aligned: treat the slice as read-only and gone with the File.
// F16, BF16 and F64 are converted. An I8 tensor needs its scales: see
// File.Float32s.
func (t Tensor) Float32s() ([]float32, error) {
	n := t.Len()
	if t.DType == F32 && littleEndian && n > 0 && uintptr(unsafe.Pointer(&t.Data[0]))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(&t.Data[0])), n), nil
	}
	out := make([]float32, n)
	switch t.DType {
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
		}
	case F64:
		for i := range out {
			out[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(t.Data[8*i:])))
		}
	case BF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(t.Data[2*i:])) << 16)
		}
	case F16:
		for i := range out {
			out[i] = fromHalf(binary.LittleEndian.Uint16(t.Data[2*i:]))
		}
	default:
		return nil, fmt.Errorf("tensor %q: cannot read %s as 32-bit floats", t.Name, t.DType)
	}
	return out, nil
}

// Float32s returns the elements of the named tensor as Tensor.Float32s does,
// and the quantised ones of an I8 tensor as q × scale, where the companion
// tensor "<name>.scale" holds one scale for each row (first dimension).
func (f *File) Float32s(name string) ([]float32, error) {
	t, ok := f.tensors[name]
	if !ok {
		return nil, fmt.Errorf("tensor %q is missing", name)
	}
	if t.DType != I8 {
		return t.Float32s()
	}
	s, ok := f.tensors[name+scaleSuffix]
	if !ok {
		return nil, fmt.Errorf("tensor %q is I8 and its scales %q are missing", name, name+scaleSuffix)
	}
	scales, err := s.Float32s()
	if err != nil {
		return nil, err
	}
	rows := 1
	if len(t.Shape) > 0 {
		rows = t.Shape[0]
	}
	if len(scales) != rows {
		return nil, fmt.Errorf("tensor %q has %d rows but %q has %d scales", name, rows, s.Name, len(scales))
	}
	out := make([]float32, t.Len())
	if rows == 0 {
		return out, nil
	}
	cols := len(out) / rows
	for r, scale := range scales {
		row, q := out[r*cols:(r+1)*cols], t.Data[r*cols:(r+1)*cols]
		for i := range row {
			row[i] = float32(int8(q[i])) * scale
		}
	}
	return out, nil
}

// fromHalf widens an IEEE 754 binary16. Every half is exact as a float32.
func fromHalf(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exponent := uint32(h>>10) & 0x1f
	mantissa := uint32(h) & 0x3ff
	switch exponent {
	case 0: // zero or subnormal: mantissa × 2⁻²⁴
		v := float32(mantissa) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0x7f800000 | mantissa<<13)
	default: // re-bias the exponent from 15 to 127
		return math.Float32frombits(sign | (exponent+112)<<23 | mantissa<<13)
	}
}
