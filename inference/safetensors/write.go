package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// dataAlign is where the data begin, a cache line: SIMD code reads tensors
// whose lengths are multiples of it without crossing lines.
const dataAlign = 64

// Write writes tensors as a file that Open accepts. The data begin at a
// multiple of 64 bytes and follow one another without gaps.
func Write(w io.Writer, tensors []Tensor) error {
	header := make(map[string]any, len(tensors))
	var end int
	for _, t := range tensors {
		if _, twice := header[t.Name]; twice || t.Name == metadataKey {
			return fmt.Errorf("writing tensor %q: the name is taken", t.Name)
		}
		shape := t.Shape
		if shape == nil {
			shape = []int{} // a scalar; null would be no shape at all
		}
		begin := end
		end += len(t.Data)
		header[t.Name] = map[string]any{"dtype": t.DType, "shape": shape, "data_offsets": []int{begin, end}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		return fmt.Errorf("writing header: %w", err)
	}
	text = append(text, bytes.Repeat([]byte(" "), (dataAlign-(8+len(text))%dataAlign)%dataAlign)...)
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// NewF32 makes a tensor of one dimension.
func NewF32(name string, values []float32) Tensor {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return Tensor{Name: name, DType: F32, Shape: []int{len(values)}, Data: data}
}
