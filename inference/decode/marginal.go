package decode

import (
	"math"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// softmaxScores sets the probability of the chosen label of each row inside a
// span.
func (t *Tagger) softmaxScores(l engine.Logits, s *scratch, spans []Span) {
	for _, sp := range spans {
		for i := sp.Start; i < sp.End; i++ {
			row := l.Row(i)
			top := math.Inf(-1)
			for _, v := range row {
				top = max(top, clamp(v))
			}
			sum := 0.0
			for _, v := range row {
				sum += math.Exp(clamp(v) - top)
			}
			s.prob[i] = math.Exp(clamp(row[s.path[i]])-top) / sum
		}
	}
}

// marginals sets the posterior probability of the chosen label of every row
// under the CRF, by forward-backward with each step scaled to sum 1. It
// reports false where a step has no mass left in float64, which takes
// potentials hundreds of nats apart; softmax is the sensible answer then.
func (t *Tagger) marginals(l engine.Logits, s *scratch) bool {
	n, rows := len(t.tags), l.Rows
	s.fwd, s.emit = grow(s.fwd, rows*n), grow(s.emit, rows*n)
	s.cur, s.next = grow(s.cur, n), grow(s.next, n)
	for i := range rows {
		top := math.Inf(-1)
		for _, v := range l.Row(i) {
			top = max(top, clamp(v))
		}
		for j, v := range l.Row(i) {
			s.emit[i*n+j] = math.Exp(clamp(v) - top)
		}
	}
	for j := range n {
		s.fwd[j] = t.expStart[j] * s.emit[j]
	}
	if !normalise(s.fwd[:n]) {
		return false
	}
	for i := 1; i < rows; i++ {
		prev, now, emit := s.fwd[(i-1)*n:i*n], s.fwd[i*n:(i+1)*n], s.emit[i*n:(i+1)*n]
		clear(now)
		for from, a := range prev {
			if a == 0 {
				continue
			}
			for to, e := range t.expTrans[from*n : (from+1)*n] {
				now[to] += a * e
			}
		}
		for to := range now {
			now[to] *= emit[to]
		}
		if !normalise(now) {
			return false
		}
	}
	bwd, prev := s.cur, s.next
	copy(bwd, t.expEnd)
	for i := rows - 1; ; i-- {
		now := s.fwd[i*n : (i+1)*n]
		sum := 0.0
		for j := range now {
			sum += now[j] * bwd[j]
		}
		if !(sum > 0) {
			return false
		}
		chosen := s.path[i]
		s.prob[i] = now[chosen] * bwd[chosen] / sum
		if i == 0 {
			return true
		}
		emit := s.emit[i*n : (i+1)*n]
		for from := range n {
			sum := 0.0
			for to, e := range t.expTrans[from*n : (from+1)*n] {
				sum += e * emit[to] * bwd[to]
			}
			prev[from] = sum
		}
		if !normalise(prev) {
			return false
		}
		bwd, prev = prev, bwd
	}
}

func normalise(v []float64) bool {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	if !(sum > 0) {
		return false
	}
	for i := range v {
		v[i] /= sum
	}
	return true
}
