package decode

import (
	"maps"
	"slices"
)

// Counts are the outcomes of comparing predicted with gold entities.
type Counts struct {
	Correct   int `json:"correct"`   // predicted with exactly the gold type and boundaries
	Predicted int `json:"predicted"` // all that was predicted
	Gold      int `json:"gold"`      // all that should have been
}

// Precision is the share of the predicted entities that are right, 0 when
// nothing was predicted.
func (c Counts) Precision() float64 { return ratio(c.Correct, c.Predicted) }

// Recall is the share of the gold entities that were found, 0 when there are
// none.
func (c Counts) Recall() float64 { return ratio(c.Correct, c.Gold) }

// F1 is the harmonic mean of precision and recall.
func (c Counts) F1() float64 { return ratio(2*c.Correct, c.Predicted+c.Gold) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func (c *Counts) add(o Counts) {
	c.Correct += o.Correct
	c.Predicted += o.Predicted
	c.Gold += o.Gold
}

// Evaluation counts exact-span matches by type over many sentences. The zero
// value is ready to use.
type Evaluation struct{ byType map[string]Counts }

type spanKey struct {
	kind       string
	start, end int
}

// Add compares the entities of one sentence. Scores are not looked at;
// positions may be tokens or code points, the same for both.
func (e *Evaluation) Add(gold, predicted []Span) {
	if e.byType == nil {
		e.byType = map[string]Counts{}
	}
	left := make(map[spanKey]int, len(gold))
	for _, s := range gold {
		left[spanKey{s.Type, s.Start, s.End}]++
		c := e.byType[s.Type]
		c.Gold++
		e.byType[s.Type] = c
	}
	for _, s := range predicted {
		c := e.byType[s.Type]
		c.Predicted++
		if k := (spanKey{s.Type, s.Start, s.End}); left[k] > 0 {
			left[k]--
			c.Correct++
		}
		e.byType[s.Type] = c
	}
}

// Types are the entity types seen, sorted.
func (e *Evaluation) Types() []string { return slices.Sorted(maps.Keys(e.byType)) }

// Type returns the counts of one type.
func (e *Evaluation) Type(name string) Counts { return e.byType[name] }

// Micro returns the counts over all types, the basis of the micro average.
func (e *Evaluation) Micro() Counts {
	var all Counts
	for _, c := range e.byType {
		all.add(c)
	}
	return all
}
