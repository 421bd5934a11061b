package goengine

import "github.com/caddy-infer/caddy-infer/inference/kernels"

// linear is a fully connected layer, in fp32 or in 8 bits.
type linear struct {
	weight  *kernels.Matrix
	weight8 *kernels.Matrix8
	bias    []float32
}

// activations are what goes into linear layers: rows of values, which are
// quantised once for all layers of 8 bits that they go into.
type activations struct {
	x         []float32
	rows      int
	quantized *kernels.Rows
	done      bool // quantized is of x
}

// mul computes dst = src·Wᵀ + bias.
func (l linear) mul(dst []float32, src *activations, threads int) {
	if l.weight8 == nil {
		l.weight.Mul(dst, src.x, l.bias, src.rows, threads)
		return
	}
	if !src.done {
		src.quantized.Quantize(src.x, src.rows, l.weight8.In(), threads)
		src.done = true
	}
	l.weight8.Mul(dst, src.quantized, l.bias, threads)
}

// linear reads name.weight (out×in) and name.bias (out), in fp32.
func (l *loader) linear(name string, out, in int) linear {
	w, b := l.tensor(name+".weight", out, in), l.tensor(name+".bias", out)
	if w == nil || b == nil {
		return linear{}
	}
	return linear{weight: kernels.Pack(w, out, in), bias: b}
}

// layer is linear in the model's precision. The dimensions after out are
// those that the inputs of an output are stored in.
func (l *loader) layer(name string, out int, inputs ...int) linear {
	shape, in := append([]int{out}, inputs...), 1
	for _, n := range inputs {
		in *= n
	}
	b := l.tensor(name+".bias", out)
	if l.int8 != nil {
		w := l.int8.weights(l, name+".weight", shape, in)
		if w == nil || b == nil {
			return linear{}
		}
		return linear{weight8: w, bias: b}
	}
	w := l.tensor(name+".weight", shape...)
	if w == nil || b == nil {
		return linear{}
	}
	return linear{weight: kernels.Pack(w, out, in), bias: b}
}
