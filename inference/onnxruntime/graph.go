package onnxruntime

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// port is an input or output of a graph.
type port struct {
	name string
	// dtype is ONNX's name of the element type, in lower case: int64, float.
	dtype string
	// dims has -1 for a dimension that each call may choose.
	dims []int64
}

func (p port) String() string { return fmt.Sprintf("%s %s%v", p.name, p.dtype, p.dims) }

// The inputs that Hugging Face's exports of BERT have.
const (
	inputIDs      = "input_ids"
	attentionMask = "attention_mask"
	tokenTypeIDs  = "token_type_ids" //nolint:gosec // no credential: a token is a piece of text
)

// graph is what the engine needs to know of a graph to call it.
type graph struct {
	// inputs in the order to pass them, a subset of the three above.
	inputs []string
	// output is the name of the logits.
	output string
	// perToken says that the logits are [batch, tokens, labels] rather than
	// [batch, labels].
	perToken bool
	// padded says that sequences of unequal length can share a call, because
	// the graph can be told which tokens are padding.
	padded bool
}

// inspect checks that a graph with these ports can serve a model of that
// configuration.
func inspect(inputs, outputs []port, config modeldir.Config) (graph, error) {
	var g graph
	for _, in := range inputs {
		switch {
		case in.name != inputIDs && in.name != attentionMask && in.name != tokenTypeIDs:
			return g, fmt.Errorf("the graph wants an input %s, and only %s, %s and %s can be given: "+
				"export it with those", in, inputIDs, attentionMask, tokenTypeIDs)
		case in.dtype != "int64":
			return g, fmt.Errorf("the graph wants %s: export it with int64 inputs", in)
		case len(in.dims) != 2:
			return g, fmt.Errorf("the graph wants %s, not [batch, tokens]", in)
		case in.dims[0] >= 0 || in.dims[1] >= 0:
			return g, fmt.Errorf("the graph wants %s, a fixed size: export it with dynamic axes for batch and tokens", in)
		}
		g.inputs = append(g.inputs, in.name)
	}
	if !slices.Contains(g.inputs, inputIDs) {
		return g, fmt.Errorf("the graph has no input %s", inputIDs)
	}
	g.padded = slices.Contains(g.inputs, attentionMask)

	out, err := logitsOf(outputs)
	if err != nil {
		return g, err
	}
	g.output = out.name
	g.perToken = config.Task == modeldir.TokenClassification
	rank, shape := 2, "[batch, labels]"
	if g.perToken {
		rank, shape = 3, "[batch, tokens, labels]"
	}
	if out.dtype != "float" {
		return g, fmt.Errorf("the graph's output is %s, not float32", out)
	}
	if len(out.dims) != rank {
		return g, fmt.Errorf("the graph's output is %s, and the %s of %s wants %s: "+
			"was the model exported with its head?", out, config.Task, modeldir.ConfigFile, shape)
	}
	if labels := out.dims[rank-1]; labels >= 0 && labels != int64(len(config.Labels)) {
		return g, fmt.Errorf("the graph's output is %s, and %s has %d labels", out, modeldir.ConfigFile, len(config.Labels))
	}
	return g, nil
}

// logitsOf finds the output called logits, or the only one there is.
func logitsOf(outputs []port) (port, error) {
	for _, out := range outputs {
		if out.name == "logits" {
			return out, nil
		}
	}
	if len(outputs) == 1 {
		return outputs[0], nil
	}
	names := make([]string, len(outputs))
	for i, out := range outputs {
		names[i] = out.String()
	}
	return port{}, fmt.Errorf("the graph has no output logits, but %s", strings.Join(names, ", "))
}

// check compares the shape that a call returned with what was asked for.
func (g graph) check(shape []int64, batch, tokens, labels int) error {
	want := []int64{int64(batch), int64(labels)}
	if g.perToken {
		want = []int64{int64(batch), int64(tokens), int64(labels)}
	}
	if !slices.Equal(shape, want) {
		return fmt.Errorf("the graph returned %s%v for a batch that wants %v", g.output, shape, want)
	}
	return nil
}
