package highlight

import (
	"errors"
	"io"
)

// runText reads plain text: lines that belong together are a block, which ends
// at an empty line.
func (r *Rewriter) runText(src io.Reader) error {
	buf := make([]byte, 4096)
	var line []byte // not finished
	handle := func() error {
		base := len(r.b.raw)
		r.b.keep(line)
		r.b.addText(r.b.raw[base:], base, r.dec, false)
		if len(line) > 0 && blankBytes(line) {
			r.b.endBlock(len(r.b.raw))
		}
		line = line[:0]
		return r.limits()
	}
	for {
		n, err := src.Read(buf)
		for _, c := range buf[:n] {
			line = append(line, c)
			if c == '\n' || len(line) >= r.o.MaxBuffer {
				if err := handle(); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			if err := handle(); err != nil {
				return err
			}
			return r.end()
		}
		if err != nil {
			return err
		}
	}
}
