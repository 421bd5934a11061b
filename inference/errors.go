package inference

import (
	"errors"
	"fmt"

	"github.com/caddy-infer/caddy-infer/inference/batch"
)

// ErrReleased is returned by a model after its last user has released it.
var ErrReleased = errors.New("the model has been released")

// OverloadedError says that a request found no place in the queue, or waited
// in it for longer than Options.QueueWait.
type OverloadedError = batch.OverloadedError

// TooLongError says that a text has more than Options.MaxChars code points.
type TooLongError struct {
	// Index of the text among those of the request.
	Index int
	// Chars is its length and Max the limit, both in code points.
	Chars, Max int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("text %d is %d characters long, the limit is %d", e.Index+1, e.Chars, e.Max)
}

// EngineError is a failed or panicked forward pass.
type EngineError struct{ Err error }

func (e *EngineError) Error() string { return "running the model: " + e.Err.Error() }

// Unwrap returns the engine's own error.
func (e *EngineError) Unwrap() error { return e.Err }
