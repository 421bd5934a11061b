package inferhandler

import (
	"context"
	"io"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/iob2"
)

// evaluateEntities compares a model's entities with those of an .iob2 file:
// exact spans, types by their canonical names.
func evaluateEntities(ctx context.Context, m model, in io.Reader, sums []*outcome) error {
	sentences, err := iob2.Read(in)
	if err != nil {
		return err
	}
	text := func(i int) string { return sentences[i].Text }
	return predictAll(ctx, m, len(sentences), sums, text, func(i int, got *inference.Result) {
		gold := make([]decode.Span, len(sentences[i].Entities))
		for k, e := range sentences[i].Entities {
			gold[k] = decode.Span{Type: decode.CanonicalType(e.Type), Start: e.Start, End: e.End}
		}
		predicted := make([]decode.Span, len(got.Entities))
		for k, e := range got.Entities {
			predicted[k] = decode.Span{Type: decode.CanonicalType(e.Type), Start: e.Start, End: e.End}
		}
		for _, sum := range sums {
			sum.entities.Add(gold, predicted)
		}
	})
}

func measuresOf(c decode.Counts) measures {
	return measures{Precision: c.Precision(), Recall: c.Recall(), F1: c.F1(), Support: c.Gold}
}
