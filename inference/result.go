package inference

import (
	"time"

	"github.com/caddy-infer/caddy-infer/inference/decode"
)

// Entity is a named entity in ModelScope's shape.
type Entity struct {
	// Type is the model's own label: PER, LOC, ORG, …
	Type string `json:"type"`
	// Start and End count code points of the text; End is exclusive.
	Start int `json:"start"`
	End   int `json:"end"`
	// Span is the text between Start and End.
	Span string `json:"span"`
	// Prob is the model's confidence, 0 to 1.
	Prob float64 `json:"prob"`
}

// Result is what a model says of one text.
type Result struct {
	// Text as it was given.
	Text string
	// Entities in order of Start, never overlapping. Not nil for token
	// classification, nil otherwise.
	Entities []Entity
	// Scores of all labels in the model's order, for text classification.
	Scores []decode.LabelScore
}

// Stats tell where the time of one Predict call went.
type Stats struct {
	// Queue is the wait for a free worker, Run the time in forward passes.
	Queue, Tokenize, Run, Decode time.Duration
	// BatchSize is the largest number of windows, of this request or of
	// others, that shared a forward pass.
	BatchSize int
	// Windows of text and tokens (special ones included) of this request that
	// the network was run on.
	Windows, Tokens int
	// Cached are the texts that were answered from the cache, Missed those that
	// were looked for there in vain.
	Cached, Missed int
	// Digest identifies the model that answered, all texts of a request by the
	// same one.
	Digest string
}
