package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// metadataKey holds free-form strings instead of a tensor.
const metadataKey = "__metadata__"

// maxDims bounds a shape: no network here has more than four dimensions.
const maxDims = 16

// entry is one tensor of the header, unchecked.
type entry struct {
	name       string
	dtype      DType
	shape      []uint64
	begin, end uint64
}

// parseHeader reads the JSON object key by key, because a plain map would
// silently keep the last of two tensors of one name.
func parseHeader(header []byte) ([]entry, error) {
	dec := json.NewDecoder(bytes.NewReader(header))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, errors.New("header is not a JSON object: not a safetensors file")
	}
	var entries []entry
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("parsing header: %w", err)
		}
		name, _ := tok.(string)
		if seen[name] {
			return nil, fmt.Errorf("tensor %q is there twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			var ignored map[string]string
			if err := dec.Decode(&ignored); err != nil {
				return nil, fmt.Errorf("parsing %s: %w", metadataKey, err)
			}
			continue
		}
		var v struct {
			DType   DType    `json:"dtype"`
			Shape   []uint64 `json:"shape"`
			Offsets []uint64 `json:"data_offsets"`
		}
		if err := dec.Decode(&v); err != nil {
			return nil, fmt.Errorf("parsing tensor %q: %w", name, err)
		}
		if len(v.Offsets) != 2 || len(v.Shape) > maxDims {
			return nil, fmt.Errorf("tensor %q: needs data_offsets [begin, end] and a shape of at most %d dimensions", name, maxDims)
		}
		entries = append(entries, entry{name, v.DType, v.Shape, v.Offsets[0], v.Offsets[1]})
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("parsing header: %w", err)
	}
	// Writers pad the header with spaces so that the data are aligned.
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("header has text after the JSON object")
	}
	return entries, nil
}
