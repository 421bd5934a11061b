package safetensors

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func floats(v ...float32) []byte {
	var b []byte
	for _, f := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
	}
	return b
}

func encode(t testing.TB, tensors ...Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// raw builds a file from a header text and a number of data bytes.
func raw(header string, body int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, body)...)
}

func TestWrittenTensorsAreReadBack(t *testing.T) {
	data := encode(t,
		Tensor{Name: "w", DType: F32, Shape: []int{2, 2}, Data: floats(1, -2, 3.5, 0)},
		Tensor{Name: "half", DType: F16, Shape: []int{5}, Data: []byte{0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00, 0x00, 0x7c, 0x00, 0x80}},
		Tensor{Name: "brain", DType: BF16, Shape: []int{2}, Data: []byte{0x80, 0x3f, 0x00, 0xc0}},
		Tensor{Name: "double", DType: F64, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.25))},
		Tensor{Name: "q", DType: I8, Shape: []int{2, 3}, Data: []byte{1, 2, 0xff, 127, 0x81, 0}},
		Tensor{Name: "q.scale", DType: F32, Shape: []int{2}, Data: floats(0.5, 0.1)},
	)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	mapped, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	inMemory, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	unaligned, err := Parse(append([]byte{0}, data...)[1:])
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]float32{
		"w":      {1, -2, 3.5, 0},
		"half":   {1, -2, 1.0 / (1 << 24), float32(math.Inf(1)), 0},
		"brain":  {1, -2},
		"double": {0.25},
		"q":      {0.5, 1, -0.5, 12.7, -12.7, 0},
	}
	for kind, f := range map[string]*File{"mapped": mapped, "parsed": inMemory, "unaligned": unaligned} {
		for name, values := range want {
			got, err := f.Float32s(name)
			if err != nil || !slices.Equal(got, values) {
				t.Errorf("%s %s: got %v, %v; want %v", kind, name, got, err, values)
			}
		}
		if w, ok := f.Tensor("w"); !ok || !slices.Equal(w.Shape, []int{2, 2}) || w.Len() != 4 {
			t.Errorf("%s: tensor w is %+v", kind, w)
		}
		if names := f.Names(); !slices.IsSorted(names) || len(names) != 6 {
			t.Errorf("%s: names %v", kind, names)
		}
	}
}

func TestBrokenFilesAreRefusedWithTheReason(t *testing.T) {
	tests := []struct {
		name, want string
		data       []byte
	}{
		{"empty", "unfinished download", nil},
		{"huge header", "not a safetensors file", []byte("\xff\xff\xff\xff\xff\xff\xff\xff{}")},
		{"header past the end", "unfinished download", []byte("\x09\x00\x00\x00\x00\x00\x00\x00{}")},
		{"not json", "not a JSON object", raw("PK\x03\x04 zip", 0)},
		{"text after the header", "after the JSON object", raw(`{} {}`, 0)},
		{"negative offset", `"a"`, raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, 4)},
		{"data past the end", `"a": data end at byte 8`, raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4)},
		{"reversed offsets", `"a"`, raw(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}}`, 4)},
		{"hole", `"b": data offsets [8, 12]`, raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, 12)},
		{"overlap", `"b": data offsets [0, 4]`, raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)},
		{"trailing bytes", "4 bytes after", raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 8)},
		{"wrong length", `takes 12 bytes, found 8`, raw(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8)},
		{"overflow", "too large", raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}`, 0)},
		{"unknown type", `element type "Q9"`, raw(`{"a":{"dtype":"Q9","shape":[],"data_offsets":[0,4]}}`, 4)},
		{"twice", "twice", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1)},
		{"no offsets", "data_offsets", raw(`{"a":{"dtype":"U8","shape":[1]}}`, 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := os.WriteFile(path, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error that names the file", err)
			}
		})
	}
}

func TestQuantisedTensorsNeedTheirScales(t *testing.T) {
	for want, tensors := range map[string][]Tensor{
		"scales \"q.scale\" are missing": {{Name: "q", DType: I8, Shape: []int{1}, Data: []byte{1}}},
		"has 2 rows but \"q.scale\" has 1": {
			{Name: "q", DType: I8, Shape: []int{2}, Data: []byte{1, 1}},
			{Name: "q.scale", DType: F32, Shape: []int{1}, Data: floats(1)},
		},
		"cannot read I64": {{Name: "q", DType: "I64", Shape: []int{1}, Data: make([]byte, 8)}},
	} {
		f, err := Parse(encode(t, tensors...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Float32s("q"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(f, Tensor{Name: "w", DType: F32, Shape: []int{1, 2}, Data: floats(1, 2)}))
	f.Add(encode(f, Tensor{Name: "q", DType: I8, Shape: []int{2}, Data: []byte{1, 2}},
		Tensor{Name: "q.scale", DType: F16, Shape: []int{2}, Data: make([]byte, 4)}))
	f.Add(raw(`{"__metadata__":{"format":"pt"},"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, 8))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		var total int
		for _, name := range file.Names() {
			tensor, _ := file.Tensor(name)
			total += len(tensor.Data)
			if v, err := file.Float32s(name); err == nil && len(v) != tensor.Len() {
				t.Errorf("tensor %q: %d values of %d", name, len(v), tensor.Len())
			}
		}
		if total > len(data) {
			t.Errorf("tensors of %d bytes in a file of %d", total, len(data))
		}
	})
}
