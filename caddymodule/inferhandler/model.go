package inferhandler

import (
	"context"

	"github.com/caddy-infer/caddy-infer/inference"
)

// model is the part of inference.Served that this package uses. Unit tests
// put a fake in its place.
type model interface {
	// Predict answers one Result per text.
	Predict(ctx context.Context, texts []string) ([]inference.Result, inference.Stats, error)
	// Check runs a forward pass that does not wait behind users' requests.
	Check(ctx context.Context) error
	Info() inference.Info
	Release() error
}

// sharedModel is a model that a handler may hand on to a request of its own
// lifetime.
type sharedModel interface {
	model
	// Hold returns another hold on the same model.
	Hold() (model, error)
}

// served makes *inference.Served a sharedModel.
type served struct{ *inference.Served }

func (s served) Hold() (model, error) {
	again, err := s.Served.Hold()
	if err != nil {
		return nil, err
	}
	return served{again}, nil
}

// serve opens what a name stands for.
func serve(name, ref string, opts inference.Options) (sharedModel, error) {
	m, err := inference.Serve(name, ref, opts)
	if err != nil {
		return nil, err
	}
	return served{m}, nil
}
