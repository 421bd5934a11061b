// Package window cuts token sequences that are longer than a model takes into
// overlapping windows, and joins what the model said about them.
//
// Two neighbouring windows share an overlap with a cut in its middle. The cut
// is put after a sentence where there is one, else after a comma, else between
// words. Left of it the first window speaks, right of it the second; an entity
// across it is taken whole from the window that sees more text around it.
package window

import "github.com/caddy-infer/caddy-infer/inference/tokenizer"

// Overlap is how many tokens two neighbouring windows share, at most a
// quarter of a window. Entities up to that length come out whole wherever the
// cut falls.
const Overlap = 32

// Window is a part of a token sequence, as token indices, ends exclusive.
type Window struct {
	// Start and End bound what the model reads.
	Start, End int
	// OwnStart and OwnEnd bound what this window decides; the windows' own
	// parts follow each other without gap or overlap.
	OwnStart, OwnEnd int
}

// Split cuts tokens into windows of at most maxTokens, without counting the
// special tokens that the caller puts around each. Offsets refer to text, in
// code points. maxTokens ≤ 0 means unbounded. No tokens give one empty window,
// so that a classifier still has something to run on.
func Split(tokens []tokenizer.Token, text string, maxTokens int) []Window {
	n := len(tokens)
	if maxTokens <= 0 || n <= maxTokens {
		return []Window{{End: n, OwnEnd: n}}
	}
	quality := boundaries(tokens, text)
	half := min(Overlap, maxTokens/4) / 2 // on either side of a cut
	windows := make([]Window, 0, 2*n/maxTokens+1)
	start, own := 0, 0
	for n-start > maxTokens {
		// Not in the first half: a window that short would not pay.
		cut := bestCut(quality, start+max(1, maxTokens/2), start+maxTokens-half)
		windows = append(windows, Window{Start: start, End: cut + half, OwnStart: own, OwnEnd: cut})
		start, own = cut-half, cut
	}
	return append(windows, Window{Start: start, End: n, OwnStart: own, OwnEnd: n})
}

// bestCut picks the last of the best boundaries in [from, to]: late, because
// fewer windows mean less work.
func bestCut(quality []boundary, from, to int) int {
	best := to
	for i := to; i >= from; i-- {
		if quality[i] > quality[best] {
			best = i
		}
	}
	return best
}
