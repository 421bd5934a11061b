package onnxruntime

import (
	"slices"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func TestOtherGraphsAreRefusedWithTheReason(t *testing.T) {
	tokens := modeldir.Config{Task: modeldir.TokenClassification, Labels: []string{"O", "B-PER", "I-PER"}}
	sentiment := modeldir.Config{Task: modeldir.SequenceClassification, Labels: []string{"负面", "正面"}}
	in := func(names ...string) (ports []port) {
		for _, n := range names {
			ports = append(ports, port{n, "int64", []int64{-1, -1}})
		}
		return ports
	}
	out := func(name string, dims ...int64) []port { return []port{{name, "float", dims}} }
	all := in(inputIDs, attentionMask, tokenTypeIDs)
	tests := []struct {
		name    string
		in, out []port
		config  modeldir.Config
		wantErr string // empty: accepted
	}{
		{"BERT for tokens", all, out("logits", -1, -1, 3), tokens, ""},
		{"labels of no fixed number", all, out("logits", -1, -1, -1), tokens, ""},
		{"BERT for sequences", all, out("logits", -1, 2), sentiment, ""},
		{"no token types", in(attentionMask, inputIDs), out("logits", -1, -1, 3), tokens, ""},
		{"no mask", in(inputIDs), out("logits", -1, -1, 3), tokens, ""},
		{"one output of another name", all, out("output_0", -1, -1, 3), tokens, ""},
		{"logits among others", all, append(out("pooled", -1, 768), out("logits", -1, 2)...), sentiment, ""},
		{"no token ids", in(attentionMask), out("logits", -1, 2), sentiment, "no input input_ids"},
		{
			"an image model",
			[]port{{"pixel_values", "float", []int64{-1, 3, 224, 224}}},
			out("logits", -1, 2), sentiment,
			"pixel_values float[-1 3 224 224]",
		},
		{"32-bit ids", []port{{inputIDs, "int32", []int64{-1, -1}}}, out("logits", -1, 2), sentiment, "int64 inputs"},
		{"one sequence at a time", []port{{inputIDs, "int64", []int64{-1}}}, out("logits", -1, 2), sentiment, "not [batch, tokens]"},
		{"a fixed size", []port{{inputIDs, "int64", []int64{1, 128}}}, out("logits", 1, 2), sentiment, "dynamic axes"},
		{"no head", all, out("last_hidden_state", -1, -1, 768), tokens, "has 3 labels"},
		{"the head of another task", all, out("logits", -1, 3), tokens, "exported with its head"},
		{"two unnamed outputs", all, append(out("a", -1, 2), out("b", -1, 2)...), sentiment, "no output logits, but a float"},
		{"half precision", all, []port{{"logits", "float16", []int64{-1, 2}}}, sentiment, "not float32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := inspect(tt.in, tt.out, tt.config)
			if got := errText(err); (tt.wantErr == "") != (err == nil) || !strings.Contains(got, tt.wantErr) {
				t.Fatalf("got error %q, want %q", got, tt.wantErr)
			}
			if err == nil && (len(g.inputs) != len(tt.in) || g.padded != slices.Contains(g.inputs, attentionMask)) {
				t.Errorf("got %+v", g)
			}
		})
	}
}

func TestAnUnexpectedShapeIsAnErrorNotGarbage(t *testing.T) {
	g := graph{output: "logits", perToken: true}
	if err := g.check([]int64{2, 8, 3}, 2, 8, 3); err != nil {
		t.Error(err)
	}
	for _, shape := range [][]int64{nil, {2, 8}, {2, 8, 4}, {2, 7, 3}, {1, 8, 3}, {2, 3, 8}} {
		if g.check(shape, 2, 8, 3) == nil {
			t.Errorf("shape %v passes for [2 8 3]", shape)
		}
	}
}
