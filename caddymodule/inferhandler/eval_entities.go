package inferhandler

import (
	"context"
	"io"

	"github.com/caddy-infer/caddy-infer/inference"
)

// span is an entity's place, in code points.
type span struct {
	kind       string
	start, end int
}

func (r *report) evaluateEntities(ctx context.Context, m model, in io.Reader) error {
	_ = inference.ErrReleased
	return nil
}
