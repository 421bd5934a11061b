package highlight

import "strings"

// isOutside says whether a label means that there is no entity.
func isOutside(label string) bool {
	switch label {
	case "", "O", "o", "[PAD]", "[CLS]", "[SEP]":
		return true
	}
	return false
}

// cutTag takes the role in a tagging scheme off a label: B-PER, I-PER, S-PER
// (BIO, BIOES, BIOLU, BMES) and PER-B. The role of a label without one is 0.
func cutTag(label string) (role byte, name string) {
	n := len(label)
	switch {
	case n > 2 && (label[1] == '-' || label[1] == '_') && isRole(label[0]):
		return normalRole(label[0]), label[2:]
	case n > 2 && label[n-2] == '-' && isRole(label[n-1]):
		return normalRole(label[n-1]), label[:n-2]
	}
	return 0, label
}

func isRole(c byte) bool { return strings.IndexByte("BIMELSUW", c) >= 0 }

// normalRole maps the letters of all schemes to those of BIOES.
func normalRole(c byte) byte {
	switch c {
	case 'M':
		return 'I'
	case 'L':
		return 'E'
	case 'U', 'W':
		return 'S'
	}
	return c
}

// joinTags makes entities of tagged tokens, in order of their place: I and E go
// on with an entity of the same type with nothing but white space between, everything else
// begins a new one. An orphan I or E begins one, too. Scores are averaged over
// the tokens.
func joinTags(x *textIndex, list []located) []Entity {
	var out []Entity
	open := -1 // index in out of the entity that may go on
	parts := 0
	for _, l := range list {
		if isOutside(l.label) {
			continue
		}
		role, name := cutTag(l.label)
		if open >= 0 && (role == 'I' || role == 'E') && out[open].Label == name && x.blank(out[open].End, l.from) {
			e := &out[open]
			e.End = l.to
			parts++
			e.HasScore = e.HasScore && l.hasScore
			e.Score += (l.score - e.Score) / float64(parts)
		} else {
			out = append(out, Entity{Start: l.from, End: l.to, Label: name, Score: l.score, HasScore: l.hasScore})
			open, parts = len(out)-1, 1
		}
		if role == 'E' || role == 'S' {
			open = -1
		}
	}
	return out
}
