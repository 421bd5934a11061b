package gpupolicy

import (
	"maps"
	"slices"
	"sync"

	"go.uber.org/zap"
)

// digests warns of nodes that serve different models.
type digests struct {
	mu sync.Mutex
	of map[string]string // by dial address
}

func (d *digests) note(p *Policy, dial, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if digest == "" || d.of[dial] == digest {
		return
	}
	if d.of == nil {
		d.of = make(map[string]string)
	}
	d.of[dial] = digest
	if len(d.of) > maxDynamic { // upstreams come and go
		clear(d.of)
	}
	if d.differ() {
		p.logger.Warn("nodes of one pool serve different models: compare their model files", zap.Any("model_digest", maps.Clone(d.of)))
	}
}

func (d *digests) forget(dial string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, dial)
}

// differ is called with the lock held.
func (d *digests) differ() bool {
	first := ""
	for _, digest := range d.of {
		if first == "" {
			first = digest
		} else if digest != first {
			return true
		}
	}
	return false
}

// conflict says with which other node the node's model disagrees, "" with none.
func (d *digests) conflict(dial string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	mine := d.of[dial]
	if mine == "" || !d.differ() {
		return ""
	}
	for _, other := range slices.Sorted(maps.Keys(d.of)) {
		if theirs := d.of[other]; theirs != mine {
			return other
		}
	}
	return ""
}
