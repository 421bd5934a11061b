// Package highlight makes answers of text models readable. It parses the JSON of
// the common services into entities with offsets in code points, renders them as
// HTML, and marks entities in pages as these stream past. It knows nothing of
// Caddy.
package highlight

// Document is one text and what a model said about it.
type Document struct {
	Text string
	// Entities in order of Start; outer ones before inner ones.
	Entities []Entity
	// Scores of a classifier, the best first. Nil for entities.
	Scores []Score
	// Dropped counts entities that could not be placed in the text without
	// guessing.
	Dropped int
}

// Entity is a stretch of text with a label.
type Entity struct {
	// Start and End count code points of the text; End is exclusive.
	Start, End int
	// Label as the model wrote it, without the B- or I- of a tagging scheme.
	Label string
	// Score is the model's confidence, 0 to 1. Only with HasScore.
	Score    float64
	HasScore bool
}

// Score is a label of a classifier with its probability.
type Score struct {
	Label string
	Score float64
}
