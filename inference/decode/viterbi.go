package decode

import (
	"math"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// constrain fills the transitions with what the scheme forbids. Only labels
// that the model has are asked for: a set without E may end an entity
// anywhere, one without S may end it right after B.
func (t *Tagger) constrain() {
	n := len(t.tags)
	has := map[int]*[single + 1]bool{}
	for _, g := range t.tags {
		if g.id < 0 {
			continue
		}
		if has[g.id] == nil {
			has[g.id] = new([single + 1]bool)
		}
		has[g.id][g.role] = true
	}
	needsOpen := func(g tag) bool {
		return !t.orphans && (g.role == inside || g.role == end) && has[g.id][begin]
	}
	staysOpen := func(g tag) bool {
		if g.id < 0 || !has[g.id][begin] || !has[g.id][end] {
			return false
		}
		return g.role == inside || g.role == begin && has[g.id][single]
	}
	for to, b := range t.tags {
		if needsOpen(b) {
			t.start[to] = forbidden
		}
		if staysOpen(b) {
			t.end[to] = forbidden
		}
		for from, a := range t.tags {
			continues := (a.role == begin || a.role == inside) &&
				(b.role == inside || b.role == end) && a.id == b.id
			if (needsOpen(b) || staysOpen(a)) && !continues {
				t.trans[to*n+from] = forbidden
			}
		}
	}
}

// greedy takes the best label of every row and reports whether the scheme
// allows the result. Then no other path can be better, and Viterbi is saved:
// that is nearly every sequence of a trained model.
func (t *Tagger) greedy(l engine.Logits, path []int32) bool {
	n := len(t.tags)
	prev := -1
	for i := range path {
		best, score := 0, math.Inf(-1)
		for j, v := range l.Row(i) {
			if f := clamp(v); f > score {
				best, score = j, f
			}
		}
		if prev < 0 && t.start[best] != 0 || prev >= 0 && t.trans[best*n+prev] != 0 {
			return false
		}
		path[i] = int32(best)
		prev = best
	}
	return t.end[prev] == 0
}

// viterbi finds the path with the greatest sum of logits and transitions.
func (t *Tagger) viterbi(l engine.Logits, s *scratch) {
	n := len(t.tags)
	s.cur, s.next, s.back = grow(s.cur, n), grow(s.next, n), grow(s.back, l.Rows*n)
	cur, next := s.cur, s.next
	for j, v := range l.Row(0) {
		cur[j] = clamp(v) + t.start[j]
	}
	for i := 1; i < l.Rows; i++ {
		back := s.back[i*n : (i+1)*n]
		row := l.Row(i)
		for to := range n {
			trans := t.trans[to*n : (to+1)*n]
			best, score := 0, cur[0]+trans[0]
			for from := 1; from < n; from++ {
				if v := cur[from] + trans[from]; v > score {
					best, score = from, v
				}
			}
			next[to] = score + clamp(row[to])
			back[to] = int32(best)
		}
		cur, next = next, cur
	}
	best := 0
	for j := range cur {
		cur[j] += t.end[j]
		if cur[j] > cur[best] {
			best = j
		}
	}
	for i := l.Rows - 1; ; i-- {
		s.path[i] = int32(best)
		if i == 0 {
			return
		}
		best = int(s.back[i*n+best])
	}
}
