// Package safetensors reads Hugging Face's weight format: eight bytes of
// header length, a JSON header that names every tensor with its type, shape
// and place, then the raw little-endian data.
//
// The format is specified at https://huggingface.co/docs/safetensors. This
// reader is as strict as the reference implementation: data must be indexed
// without holes or overlaps, so a file that opens is wholly accounted for.
package safetensors

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"

	"github.com/edsrzf/mmap-go"
)

// maxHeader bounds the JSON header. BERT-base with 200 tensors needs 25 kB.
const maxHeader = 16 << 20

// DType is the element type of a tensor, spelled as in the header.
type DType string

// The element types that Float32s converts. Others can be read as bytes.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I8   DType = "I8"
	U8   DType = "U8" // as bytes only
)

var dtypeSize = map[DType]int{
	"BOOL": 1, U8: 1, I8: 1, "F8_E4M3": 1, "F8_E5M2": 1,
	"I16": 2, "U16": 2, F16: 2, BF16: 2,
	"I32": 4, "U32": 4, F32: 4,
	"I64": 8, "U64": 8, F64: 8,
}

// Tensor is one named array. Data aliases the file: it is valid until the
// File is closed and must not be written to.
type Tensor struct {
	Name  string
	DType DType
	Shape []int
	Data  []byte
}

// Len is the number of elements.
func (t Tensor) Len() int { return len(t.Data) / dtypeSize[t.DType] }

// File is an opened weight file. It is safe for concurrent use.
type File struct {
	tensors map[string]Tensor
	names   []string
	mapped  mmap.MMap
}

// Open maps the file at path into memory, so that weights cost no more than
// the pages in use and are shared between processes. Replace such a file by
// renaming another over it: truncating a mapped file kills its readers.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening weights: %w", err)
	}
	defer f.Close() // the mapping outlives the descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening weights: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("opening weights: %s is not a regular file", path)
	}
	if info.Size() == 0 { // cannot be mapped
		return nil, fmt.Errorf("reading %s: %w", path, errTooShort)
	}
	data, err := mmap.Map(f, mmap.RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("mapping %s into memory: %w", path, err)
	}
	file, err := Parse(data)
	if err != nil {
		_ = data.Unmap()
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	file.mapped = data
	return file, nil
}

var errTooShort = errors.New("too short for a safetensors file: it may be an unfinished download")

// Parse reads a file that is in memory already. The File aliases data.
func Parse(data []byte) (*File, error) {
	if len(data) < 8 {
		return nil, errTooShort
	}
	n := binary.LittleEndian.Uint64(data)
	switch {
	case n > maxHeader:
		return nil, fmt.Errorf("header of %d bytes (at most %d): not a safetensors file", n, maxHeader)
	case n > uint64(len(data)-8):
		return nil, fmt.Errorf("header of %d bytes in a file of %d: it may be an unfinished download", n, len(data))
	}
	entries, err := parseHeader(data[8 : 8+n])
	if err != nil {
		return nil, err
	}
	return index(entries, data[8+n:])
}

// index checks that the entries cover body exactly and cuts it up.
func index(entries []entry, body []byte) (*File, error) {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	file := &File{tensors: make(map[string]Tensor, len(entries))}
	var next uint64
	for _, e := range entries {
		if e.begin != next || e.end < e.begin {
			return nil, fmt.Errorf("tensor %q: data offsets [%d, %d] overlap or leave a hole: the data before it end at %d",
				e.name, e.begin, e.end, next)
		}
		if e.end > uint64(len(body)) {
			return nil, fmt.Errorf("tensor %q: data end at byte %d of %d: it may be an unfinished download",
				e.name, e.end, len(body))
		}
		shape, want, err := e.size()
		if err != nil {
			return nil, err
		}
		if e.end-e.begin != want {
			return nil, fmt.Errorf("tensor %q: %s of shape %v takes %d bytes, found %d",
				e.name, e.dtype, e.shape, want, e.end-e.begin)
		}
		next = e.end
		file.tensors[e.name] = Tensor{Name: e.name, DType: e.dtype, Shape: shape, Data: body[e.begin:e.end:e.end]}
		file.names = append(file.names, e.name)
	}
	if next != uint64(len(body)) {
		return nil, fmt.Errorf("%d bytes after the last tensor", uint64(len(body))-next)
	}
	slices.Sort(file.names)
	return file, nil
}

// size is the number of bytes that an entry's shape and type ask for.
func (e entry) size() (shape []int, bytes uint64, err error) {
	size, known := dtypeSize[e.dtype]
	if !known {
		return nil, 0, fmt.Errorf("tensor %q: unknown element type %q", e.name, e.dtype)
	}
	bytes = uint64(size)
	for _, d := range e.shape {
		high, low := bits.Mul64(bytes, d)
		if high != 0 || low > 1<<62 || d > 1<<62 {
			return nil, 0, fmt.Errorf("tensor %q: shape %v is too large", e.name, e.shape)
		}
		bytes = low
		shape = append(shape, int(d))
	}
	return shape, bytes, nil
}

// Tensor returns the tensor of that name.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Names returns the names of all tensors, sorted.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Close unmaps the file. Tensors must not be used afterwards.
func (f *File) Close() error {
	if f.mapped == nil {
		return nil
	}
	err := f.mapped.Unmap()
	f.mapped, f.tensors, f.names = nil, nil, nil
	return err
}
