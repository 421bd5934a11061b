package goengine

import (
	"fmt"
	"unsafe"

	"github.com/caddy-infer/caddy-infer/inference/kernels"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// quantizer makes the 8-bit weights of a model, or takes them from the cache.
type quantizer struct {
	cache *safetensors.File // nil where there is none
	made  []safetensors.Tensor
	bad   error // what is wrong with the cache
}

// The tensors of a quantised weight, by suffix to its name.
const (
	packedSuffix = ".packed"
	scalesSuffix = ".scales"
	sumsSuffix   = ".sums"
)

// weights returns the named weight of l's file, an output of which has in
// inputs, in 8 bits; or nil after telling l or q.bad why not.
func (q *quantizer) weights(l *loader, name string, shape []int, in int) *kernels.Matrix8 {
	if !l.check(name, shape...) {
		return nil
	}
	out := shape[0]
	if q.cache != nil {
		m, err := q.cached(name, out, in)
		if err != nil && q.bad == nil {
			q.bad = err
		}
		if m != nil {
			l.bytes += int64(kernels.Weights8Len(out, in))
		}
		return m
	}
	w := l.values(name)
	if w == nil {
		return nil
	}
	packed := kernels.Quantize(w, out, in)
	q.made = append(q.made,
		safetensors.Tensor{Name: name + packedSuffix, DType: safetensors.I8, Shape: []int{len(packed.Weights)}, Data: bytesOf(packed.Weights)},
		safetensors.NewF32(name+scalesSuffix, packed.Scales),
		safetensors.NewF32(name+sumsSuffix, packed.Sums))
	l.bytes += int64(len(packed.Weights))
	return kernels.Pack8(packed, out, in)
}

func (q *quantizer) cached(name string, out, in int) (*kernels.Matrix8, error) {
	packed, ok := q.cache.Tensor(name + packedSuffix)
	if !ok || packed.DType != safetensors.I8 || packed.Len() != kernels.Weights8Len(out, in) {
		return nil, fmt.Errorf("no %s of that shape", name)
	}
	w := kernels.Weights8{Weights: int8sOf(packed.Data)}
	for suffix, into := range map[string]*[]float32{scalesSuffix: &w.Scales, sumsSuffix: &w.Sums} {
		values, err := q.cache.Float32s(name + suffix)
		if err == nil && len(values) != kernels.Scales8Len(out) {
			err = fmt.Errorf("%d values", len(values))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name+suffix, err)
		}
		*into = values
	}
	return kernels.Pack8(w, out, in), nil
}

// bytesOf and int8sOf look at the same memory.
func bytesOf(v []int8) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v))
}

func int8sOf(b []byte) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
}

// openINT8 builds the network in 8 bits. Weights are quantised from the
// file's once, kept beside it where the directory can be written, and mapped
// from there.
func openINT8(dir *modeldir.Dir, l *loader, build func(*loader) (network, limits, error)) (network, limits, *loader, error) {
	attempt := func(cache *safetensors.File) (network, limits, *loader, error) {
		l := &loader{file: l.file, int8: &quantizer{cache: cache}}
		n, limits, err := build(l)
		return n, limits, l, err
	}
	path, key := cacheFile(dir)
	if cache := readCache(path, key); cache != nil {
		n, limits, cached, err := attempt(cache)
		if cached.int8.bad == nil {
			return n, limits, cached, err
		}
		_ = cache.Close()
	}
	n, limits, made, err := attempt(nil)
	if err != nil || made.err() != nil {
		return n, limits, made, err
	}
	if cache := writeCache(path, key, made.int8.made); cache != nil {
		// From here on the weights are pages of the file, not memory of this
		// process.
		n2, limits2, cached, err := attempt(cache)
		if err == nil && cached.int8.bad == nil {
			return n2, limits2, cached, nil
		}
		_ = cache.Close()
	}
	made.int8.made = nil
	return n, limits, made, nil
}
