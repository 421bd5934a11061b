package inferhandler

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// The lines of a stream: how they are read, and what identifies them.

// maxID bounds what is echoed of a line.
const maxID = 256

// lineID is the id that a line gives, a string or a number, or nil.
func lineID(text []byte) json.RawMessage {
	var fields struct {
		ID json.RawMessage `json:"id"`
	}
	if !depthWithin(text, maxDepth) || json.Unmarshal(text, &fields) != nil || len(fields.ID) > maxID {
		return nil
	}
	switch jsonKind(fields.ID) {
	case "a string", "a number":
		return fields.ID
	}
	return nil
}

// withID puts the id into an answer, which is a copy of its own then. Hugging
// Face's answers are arrays, and go beside it.
func withID(id json.RawMessage, answer []byte) []byte {
	if id == nil {
		return bytes.Clone(answer)
	}
	out := make([]byte, 0, len(answer)+len(id)+len(`{"id":,"outputs":}`))
	out = append(append(out, `{"id":`...), id...)
	if answer[0] == '{' {
		return append(append(out, ','), answer[1:]...)
	}
	out = append(append(out, `,"outputs":`...), bytes.TrimSuffix(answer, []byte("\n"))...)
	return append(out, "}\n"...)
}

// errLineTooLong is returned once for a line that is too long, which is skipped.
var errLineTooLong = errors.New("the line is too long")

// lineReader reads lines of a bounded length, and says which one it is at.
type lineReader struct {
	r      *bufio.Reader
	max    int64
	buf    []byte
	number int
}

func newLineReader(r io.Reader, longest int64) *lineReader {
	l := &lineReader{r: bufio.NewReaderSize(r, 16<<10), max: longest}
	if bom, _ := l.r.Peek(3); bytes.Equal(bom, []byte("\ufeff")) {
		_, _ = l.r.Discard(3)
	}
	return l
}

// next returns the next line that is not empty, without its end. It is valid
// until the next call.
func (l *lineReader) next() ([]byte, error) {
	for {
		text, err := l.line()
		if text = bytes.TrimSpace(text); len(text) > 0 || err != nil {
			return text, err
		}
	}
}

// line reads to the end of the line, keeping no more than is allowed.
func (l *lineReader) line() ([]byte, error) {
	l.buf = l.buf[:0]
	l.number++
	tooLong := false
	for {
		part, err := l.r.ReadSlice('\n')
		if !tooLong && int64(len(l.buf)+len(part)) > l.max+int64(len("\r\n")) {
			tooLong = true
			l.buf = nil // which may have grown large
		}
		if !tooLong {
			l.buf = append(l.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(l.buf) > 0 || tooLong), err == nil:
			if tooLong {
				return nil, errLineTooLong
			}
			return l.buf, nil
		default:
			return nil, err
		}
	}
}
