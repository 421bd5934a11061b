package inferhandler

import (
	"context"

	"github.com/caddy-infer/caddy-infer/inference"
)

// model is the part of *inference.Served that this package uses. Unit tests
// put a fake in its place.
type model interface {
	// Predict answers one Result per text.
	Predict(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error)
	// Check runs a forward pass that does not wait behind users' requests.
	Check(ctx context.Context) error
	Info() inference.Info
	Release() error
}

// serve makes *inference.Served satisfy model without handing out a typed nil.
func serve(name, ref string, opts inference.Options) (model, error) {
	m, err := inference.Serve(name, ref, opts)
	if err != nil {
		return nil, err
	}
	return m, nil
}
