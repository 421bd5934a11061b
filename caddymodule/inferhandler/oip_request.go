package inferhandler

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// oipInput is the one input: a BYTES tensor with a text in each element.
const oipInput = "text"

// oipHeaderLength says how many bytes of a body are JSON, where binary tensors
// follow.
const oipHeaderLength = "Inference-Header-Content-Length"

// oipRequest is an inference request of the protocol.
type oipRequest struct {
	id      string
	texts   []string
	timeout time.Duration // 0: none given
	outputs []string      // nil: all
}

// parseOIP reads a body. headerLength is the header of the binary tensor
// extension, empty without one. The errors are *requestError.
func parseOIP(body []byte, headerLength string, maxTexts int) (*oipRequest, error) {
	var raw []byte
	if headerLength != "" {
		n, err := strconv.ParseUint(headerLength, 10, 63)
		if err != nil || n > uint64(len(body)) {
			return nil, badRequest("%s must be a number of bytes of the body", oipHeaderLength)
		}
		body, raw = body[:n], body[n:]
	}
	if at := invalidUTF8(body); at >= 0 {
		return nil, badRequest("the JSON is not valid UTF-8 at byte %d", at+1)
	}
	if !depthWithin(body, maxDepth) {
		return nil, badRequest("the JSON is nested more than %d levels deep", maxDepth)
	}
	var message struct {
		ID         json.RawMessage `json:"id"`
		Parameters struct {
			Timeout json.RawMessage `json:"timeout"` // µs: Triton's schedule policy extension
		} `json:"parameters"`
		Inputs []struct {
			Name       string          `json:"name"`
			Datatype   string          `json:"datatype"`
			Shape      []json.Number   `json:"shape"`
			Data       json.RawMessage `json:"data"`
			Parameters struct {
				BinarySize *json.Number `json:"binary_data_size"`
			} `json:"parameters"`
		} `json:"inputs"`
		Outputs []struct {
			Name string `json:"name"`
		} `json:"outputs"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		if !json.Valid(body) {
			return nil, jsonError(body, err)
		}
		return nil, badRequest(`the JSON is not an inference request of the Open Inference Protocol: {"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["…"]}]}`)
	}
	req := new(oipRequest)
	var err error
	if req.id, err = oipID(message.ID); err != nil {
		return nil, err
	}
	if req.timeout, err = oipTimeout(message.Parameters.Timeout); err != nil {
		return nil, err
	}
	if len(message.Inputs) != 1 || message.Inputs[0].Name != oipInput {
		return nil, badRequest("give one input, with the name %q", oipInput)
	}
	in := message.Inputs[0]
	if in.Datatype != "BYTES" {
		return nil, badRequest("the input %q must have the datatype BYTES", oipInput)
	}
	n, err := oipCount(in.Shape, maxTexts)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Parameters.BinarySize != nil:
		if size, err := in.Parameters.BinarySize.Int64(); err != nil || size != int64(len(raw)) || len(in.Data) > 0 {
			return nil, badRequest("binary_data_size must be the number of bytes that follow the JSON, %d, and there can't be data beside it", len(raw))
		}
		req.texts, err = oipBinary(raw, n)
	case len(raw) > 0:
		return nil, badRequest("%d bytes follow the JSON that no input has as its binary_data_size", len(raw))
	default:
		req.texts, err = oipData(in.Data, n)
	}
	if err != nil {
		return nil, err
	}
	for i, text := range req.texts {
		if text == "" {
			return nil, badRequest("No text provided in element %d", i)
		}
	}
	for _, o := range message.Outputs {
		req.outputs = append(req.outputs, o.Name)
	}
	return req, nil
}

// oipID is a string, and short: it is echoed.
func oipID(raw json.RawMessage) (id string, err error) {
	if len(raw) == 0 || jsonKind(raw) == "null" {
		return "", nil
	}
	if len(raw) > maxID || json.Unmarshal(raw, &id) != nil {
		return "", badRequest("id must be a string of at most %d bytes", maxID)
	}
	return id, nil
}

// oipTimeout is a number of microseconds, also in a string.
func oipTimeout(raw json.RawMessage) (time.Duration, error) {
	if len(raw) == 0 || jsonKind(raw) == "null" {
		return 0, nil
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		if n, err := number.Int64(); err == nil && n >= 0 {
			return time.Duration(min(n, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond, nil
		}
	}
	return 0, badRequest("the parameter timeout must be a number of microseconds")
}

// oipCount is the number of texts in a tensor of shape [n] or [n,1].
func oipCount(shape []json.Number, maxTexts int) (int, error) {
	if len(shape) == 2 && shape[1] == "1" {
		shape = shape[:1]
	}
	if len(shape) != 1 {
		return 0, badRequest("the input %q must have the shape [n] or [n,1]", oipInput)
	}
	n, err := shape[0].Int64()
	if err != nil || n < 1 {
		return 0, badRequest("the input %q must have one text or more", oipInput)
	}
	if n > int64(maxTexts) {
		return 0, tooLarge("the input %q has more than %d texts", oipInput, maxTexts)
	}
	return int(n), nil
}

// oipData reads n strings, in one array or in an array of arrays of one each.
func oipData(raw json.RawMessage, n int) ([]string, error) {
	var texts []string
	if json.Unmarshal(raw, &texts) != nil {
		var rows [][]string
		if json.Unmarshal(raw, &rows) != nil {
			return nil, badRequest("the data of the input %q must be an array of strings", oipInput)
		}
		texts = texts[:0]
		for i, row := range rows {
			if len(row) != 1 {
				return nil, badRequest("row %d of the input %q must have one string", i, oipInput)
			}
			texts = append(texts, row[0])
		}
	}
	if len(texts) != n {
		return nil, badRequest("the shape of the input %q says %d texts, its data has %d", oipInput, n, len(texts))
	}
	return texts, nil
}

// oipBinary reads n elements, each after its length in four bytes, the lowest
// first.
func oipBinary(raw []byte, n int) ([]string, error) {
	texts := make([]string, 0, n)
	for len(raw) > 0 && len(texts) < n {
		if len(raw) < 4 || uint64(len(raw)-4) < uint64(binary.LittleEndian.Uint32(raw)) {
			return nil, badRequest("element %d of the input %q is cut off", len(texts), oipInput)
		}
		end := 4 + int(binary.LittleEndian.Uint32(raw))
		if !utf8.Valid(raw[4:end]) {
			return nil, badRequest("element %d of the input %q is not valid UTF-8", len(texts), oipInput)
		}
		texts = append(texts, string(raw[4:end]))
		raw = raw[end:]
	}
	if len(texts) != n || len(raw) > 0 {
		return nil, badRequest("the shape of the input %q says %d texts, which its bytes are not", oipInput, n)
	}
	return texts, nil
}

// choose returns the outputs that were asked for, in that order.
func (r *oipRequest) choose(all []oipTensor) ([]oipTensor, error) {
	if len(r.outputs) == 0 {
		return all, nil
	}
	names := make([]string, 0, len(all))
	byName := make(map[string]oipTensor, len(all))
	for _, t := range all {
		byName[t.Name] = t
		names = append(names, t.Name)
	}
	chosen := make([]oipTensor, 0, len(all))
	for _, name := range r.outputs {
		t, ok := byName[name]
		if !ok {
			return nil, badRequest("there is no such output, or it is asked for twice; there are: %s", strings.Join(names, ", "))
		}
		delete(byName, name)
		chosen = append(chosen, t)
	}
	return chosen, nil
}
