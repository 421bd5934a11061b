package nodeagent

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// digestEvery is how often the files of a model are looked at. Unchanged ones
// are not read again.
const digestEvery = time.Minute

// digest keeps the digest of a model directory.
type digest struct {
	path string

	mu  sync.Mutex
	sum string
	why string // why there is none
}

func (d *digest) keep(ctx context.Context, changed func()) {
	d.set("", "reading the files")
	for {
		sum, err := modeldir.DigestFiles(ctx, d.path)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.set("", err.Error())
		} else {
			d.set(sum, "")
		}
		changed()
		select {
		case <-time.After(digestEvery):
		case <-ctx.Done():
			return
		}
	}
}

func (d *digest) set(sum, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sum, d.why = sum, why
}

func (d *digest) latest() (sum, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sum, d.why
}
