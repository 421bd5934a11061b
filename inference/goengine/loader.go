package goengine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/kernels"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// maxProblems is how many broken tensors an error lists.
const maxProblems = 5

// loader hands out the tensors of a weight file. Problems are collected, so
// that a family reads as the list of its tensors and the user sees several of
// the missing ones at once.
type loader struct {
	file     *safetensors.File
	int8     *quantizer // of layers; nil for fp32
	bytes    int64
	problems []string
	more     int
}

func (l *loader) fail(format string, args ...any) {
	if len(l.problems) == maxProblems {
		l.more++
		return
	}
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// err reports the collected problems. While there are any, what the loader
// returned must not be computed with.
func (l *loader) err() error {
	if len(l.problems) == 0 {
		return nil
	}
	text := strings.Join(l.problems, "; ")
	if l.more > 0 {
		text += fmt.Sprintf("; and %d more", l.more)
	}
	return fmt.Errorf("reading model.safetensors: %s", text)
}

// tensor returns the values of a tensor that must have that shape. They stay
// in the mapped file where the format allows it.
func (l *loader) tensor(name string, shape ...int) []float32 {
	if !l.check(name, shape...) {
		return nil
	}
	values := l.values(name)
	l.bytes += int64(len(values)) * 4
	return values
}

// check says whether the tensor is there and has that shape.
func (l *loader) check(name string, shape ...int) bool {
	t, ok := l.file.Tensor(name)
	if !ok {
		l.fail("tensor %q is missing", name)
		return false
	}
	if !slices.Equal(t.Shape, shape) {
		l.fail("tensor %q has the shape %v, expected %v", name, t.Shape, shape)
		return false
	}
	return true
}

func (l *loader) values(name string) []float32 {
	values, err := l.file.Float32s(name)
	if err != nil {
		l.fail("%v", err)
		return nil
	}
	return values
}

// norm is a layer normalisation.
type norm struct {
	gain, bias []float32
	epsilon    float32
}

// norm reads name.weight and name.bias, which checkpoints converted from
// TensorFlow call gamma and beta.
func (l *loader) norm(name string, n int, epsilon float32) norm {
	gain, bias := name+".weight", name+".bias"
	if _, ok := l.file.Tensor(gain); !ok {
		if _, old := l.file.Tensor(name + ".gamma"); old {
			gain, bias = name+".gamma", name+".beta"
		}
	}
	return norm{l.tensor(gain, n), l.tensor(bias, n), epsilon}
}

func (n norm) apply(x []float32) { kernels.LayerNorm(x, n.gain, n.bias, n.epsilon) }
