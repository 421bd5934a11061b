package inference

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// cache keeps the results of texts that one model has answered, at most so many
// and at most so many bytes; those not asked for the longest go first. It
// belongs to a loaded model and goes with it, so that no answer of one model is
// ever taken for that of another.
type cache struct {
	mu       sync.Mutex
	results  *simplelru.LRU[textDigest, Result]
	bytes    int64
	maxBytes int64
}

type textDigest [sha256.Size]byte

// newCache returns nil, which keeps nothing, for 0 entries.
func newCache(entries int, maxBytes int64) *cache {
	if entries == 0 {
		return nil
	}
	c := &cache{maxBytes: maxBytes}
	// The only error is a size below one.
	c.results, _ = simplelru.NewLRU(entries, func(_ textDigest, r Result) { c.bytes -= sizeOf(r) })
	return c
}

// get returns the result for a text, which the caller may keep and change.
func (c *cache) get(text string) (Result, bool) {
	key := sha256.Sum256([]byte(text))
	c.mu.Lock()
	r, ok := c.results.Get(key)
	c.mu.Unlock()
	if !ok {
		return Result{}, false
	}
	return r.clone(text), true
}

// put keeps a copy of the result.
func (c *cache) put(r Result) {
	// A text may be a part of a far larger one, which must not stay for its sake.
	r = r.clone(strings.Clone(r.Text))
	size := sizeOf(r)
	if size > c.maxBytes {
		return
	}
	key := sha256.Sum256([]byte(r.Text))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results.Remove(key) // simplelru tells nobody of a value that is replaced
	c.bytes += size
	c.results.Add(key, r)
	for c.bytes > c.maxBytes {
		c.results.RemoveOldest()
	}
}

// clone copies a result. The spans become parts of text, which equals r.Text.
func (r Result) clone(text string) Result {
	r.Text = text
	r.Entities = slices.Clone(r.Entities)
	cut := cutter{text: text}
	for i, e := range r.Entities {
		r.Entities[i].Span = cut.slice(e.Start, e.End)
	}
	r.Scores = slices.Clone(r.Scores)
	return r
}

// sizeOf estimates the bytes that a kept result takes, the list's own included.
func sizeOf(r Result) int64 {
	const entry = 200 // key, list element and map slot
	return entry + int64(len(r.Text)) +
		int64(len(r.Entities))*int64(unsafe.Sizeof(Entity{})) +
		int64(len(r.Scores))*int64(unsafe.Sizeof(decode.LabelScore{}))
}
