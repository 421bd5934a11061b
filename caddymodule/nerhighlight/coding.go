package nerhighlight

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow of zstd is what RFC 9659 lets content codings ask for.
const maxWindow = 8 << 20

// decoders of content codings.
var decoders = map[string]func(r io.Reader) (io.ReadCloser, error){
	"":         func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil },
	"identity": func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil },
	"gzip":     func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
	"zstd": func(r io.Reader) (io.ReadCloser, error) {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	},
}

var errUnknownCoding = errors.New("unknown content coding")

// decodeInto decodes what r reads.
func decodeInto(w io.Writer, r io.Reader, coding string) error {
	decoder, ok := decoders[coding]
	if !ok {
		return errUnknownCoding
	}
	d, err := decoder(r)
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = io.Copy(w, d)
	return err
}

var errTooLarge = errors.New("too large")

// limitedBuffer refuses what goes beyond its limit.
type limitedBuffer struct {
	bytes.Buffer

	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, errTooLarge
	}
	return b.Buffer.Write(p)
}

// ReadFrom hides the buffer's own, which knows no limit.
func (b *limitedBuffer) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(writerFunc(b.Write), r)
}
