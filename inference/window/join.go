package window

import "github.com/caddy-infer/caddy-infer/inference/decode"

// Join merges the entities found in each window into those of the whole
// sequence, in order and without overlap. spans[i] belongs to windows[i], with
// token indices relative to its Start; the result's are absolute.
func Join(windows []Window, spans [][]decode.Span) []decode.Span {
	if len(windows) == 1 && len(spans) == 1 && windows[0].Start == 0 {
		return spans[0]
	}
	var out []decode.Span
	for i, w := range windows[:min(len(windows), len(spans))] {
		for _, s := range spans[i] {
			s.Start, s.End = s.Start+w.Start, s.End+w.Start
			if s.End <= s.Start || s.End <= w.OwnStart || s.Start >= w.OwnEnd {
				continue // another window's to tell
			}
			// Only across the cut can s meet an entity of the window before.
			// Whoever sees more text beyond the entity is right.
			keep := true
			for keep && len(out) > 0 && out[len(out)-1].End > s.Start {
				before := windows[max(i-1, 0)].End - out[len(out)-1].End
				if keep = s.Start < w.OwnStart && s.Start-w.Start > before; keep {
					out = out[:len(out)-1]
				}
			}
			if keep {
				out = append(out, s)
			}
		}
	}
	return out
}

// Mean combines the logits that a sequence classifier gave for each window
// into one row: the mean weighted by the tokens that each window decides, so
// that overlaps do not count twice. Logits rather than probabilities, because
// a window that is unsure should not outvote one that is certain.
func Mean(windows []Window, rows [][]float32) []float32 {
	n := min(len(windows), len(rows))
	if n == 0 {
		return nil
	}
	if n == 1 {
		return rows[0]
	}
	out := make([]float32, len(rows[0]))
	total := 0
	for _, w := range windows[:n] {
		total += w.OwnEnd - w.OwnStart
	}
	for i, row := range rows[:n] {
		weight := float32(windows[i].OwnEnd-windows[i].OwnStart) / float32(max(total, 1))
		for j := range min(len(out), len(row)) {
			out[j] += weight * row[j]
		}
	}
	return out
}
