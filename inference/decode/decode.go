// Package decode turns logits into entity spans and class scores.
//
// It reads every usual tagging scheme by its labels: BIO, BIO1, BIOES, BIOLU,
// BMES, BMEWO, prefixed (B-PER, B_PER) or suffixed (PER-B), with M read as I,
// L as E, and U and W as S. A label without prefix counts as I, so that equal
// neighbours merge. Sequences that the scheme forbids are repaired instead of
// dropped; extract.go has the rules.
package decode

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// Span is an entity over token indices, End exclusive.
type Span struct {
	// Type as the model's labels name it, without scheme prefix.
	Type       string
	Start, End int
	// Score is the mean probability of the chosen labels, 0 to 1: softmax
	// without a CRF, the marginals of forward-backward with one.
	Score float64
}

// CRF holds the trained scores of a linear-chain conditional random field
// over the model's labels, added to the logits in the log domain.
type CRF struct {
	// Transitions[from][to].
	Transitions [][]float32
	// Start and End are the scores of the first and of the last label; nil
	// means all zero.
	Start, End []float32
}

// Option changes how a Tagger decodes.
type Option func(*Tagger)

// AllowOrphans lets I and E begin an entity although the label set has a B for
// the type. BIO1 models need it: there B only separates two neighbours, and
// nothing in the label set tells BIO1 from BIO. It changes nothing when there
// is a CRF, which has learnt its scheme.
func AllowOrphans() Option { return func(t *Tagger) { t.orphans = true } }

const (
	// forbidden is added to transitions that the scheme rules out. It is
	// finite so that some path always wins.
	forbidden = -1e4
	// maxLabels bounds the transition matrix to 8 MB.
	maxLabels = 1024
	// maxLogit bounds what a broken network can put into the sums.
	maxLogit = 1e6
)

// Tagger decodes the rows of a token classifier. It is immutable and safe for
// concurrent use.
type Tagger struct {
	tags    []tag
	crf     bool
	orphans bool
	// trans is [to*L+from], so that the inner loop of Viterbi runs over
	// neighbouring memory; start and end are by label.
	trans      []float64
	start, end []float64
	// expTrans is exp(trans-transMax), [from*L+to], for the marginals.
	expTrans         []float64
	expStart, expEnd []float64

	pool sync.Pool
}

// NewTagger prepares a decoder for a model's labels, in column order. crf may
// be nil.
func NewTagger(labels []string, crf *CRF, opts ...Option) (*Tagger, error) {
	if len(labels) == 0 {
		return nil, errors.New("preparing the decoder: the model has no labels; set id2label in config.json")
	}
	if len(labels) > maxLabels {
		return nil, fmt.Errorf("preparing the decoder: %d labels are more than the %d supported", len(labels), maxLabels)
	}
	t := &Tagger{tags: parseLabels(labels)}
	for _, o := range opts {
		o(t)
	}
	t.pool.New = func() any { return new(scratch) }
	n := len(labels)
	t.trans, t.start, t.end = make([]float64, n*n), make([]float64, n), make([]float64, n)
	if crf == nil {
		t.constrain()
		return t, nil
	}
	t.crf = true
	return t, t.useCRF(crf)
}

func (t *Tagger) useCRF(crf *CRF) error {
	n := len(t.tags)
	if len(crf.Transitions) != n {
		return fmt.Errorf("preparing the decoder: the CRF has %d rows of transitions for %d labels", len(crf.Transitions), n)
	}
	for from, row := range crf.Transitions {
		if len(row) != n {
			return fmt.Errorf("preparing the decoder: row %d of the CRF has %d transitions for %d labels", from, len(row), n)
		}
		for to, v := range row {
			t.trans[to*n+from] = clamp(v)
		}
	}
	for _, side := range []struct {
		name string
		from []float32
		to   []float64
	}{{"start", crf.Start, t.start}, {"end", crf.End, t.end}} {
		if side.from == nil {
			continue
		}
		if len(side.from) != n {
			return fmt.Errorf("preparing the decoder: the CRF has %d %s transitions for %d labels", len(side.from), side.name, n)
		}
		for i, v := range side.from {
			side.to[i] = clamp(v)
		}
	}
	t.expTrans = make([]float64, n*n)
	top := slices.Max(t.trans)
	for from := range n {
		for to := range n {
			t.expTrans[from*n+to] = math.Exp(t.trans[to*n+from] - top)
		}
	}
	t.expStart, t.expEnd = expAll(t.start), expAll(t.end)
	return nil
}

func expAll(v []float64) []float64 {
	top := slices.Max(v)
	out := make([]float64, len(v))
	for i := range v {
		out[i] = math.Exp(v[i] - top)
	}
	return out
}

// clamp makes NaN the worst score and infinities finite.
func clamp(v float32) float64 {
	switch f := float64(v); {
	case f != f || f < -maxLogit:
		return -maxLogit
	case f > maxLogit:
		return maxLogit
	default:
		return f
	}
}

// Decode finds the best label sequence for the rows of one window, special
// tokens already cut off, and returns its entities in order, without overlap.
// Logits whose shape does not fit the labels have no entities.
func (t *Tagger) Decode(logits engine.Logits) []Span {
	n := len(t.tags)
	if logits.Rows <= 0 || logits.Cols != n || len(logits.Data)/n < logits.Rows {
		return nil
	}
	s := t.pool.Get().(*scratch)
	defer t.pool.Put(s)
	s.path = grow(s.path, logits.Rows)
	if t.crf || !t.greedy(logits, s.path) {
		t.viterbi(logits, s)
	}
	spans := t.extract(s.path)
	if len(spans) == 0 {
		return nil
	}
	s.prob = grow(s.prob, logits.Rows)
	if !t.crf || !t.marginals(logits, s) {
		t.softmaxScores(logits, s, spans)
	}
	for i := range spans {
		sum := 0.0
		for _, p := range s.prob[spans[i].Start:spans[i].End] {
			sum += p
		}
		spans[i].Score = min(sum/float64(spans[i].End-spans[i].Start), 1)
	}
	return spans
}

// scratch is the memory of one Decode.
type scratch struct {
	path []int32
	prob []float64 // of the chosen label, by row
	cur  []float64
	next []float64
	back []int32
	fwd  []float64 // rows × labels
	emit []float64 // rows × labels
}

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
