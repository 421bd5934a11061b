package decode

// extract reads entities off a path of labels. The rules are those of
// seqeval's default mode and therefore repair what the scheme forbids: an I
// or E with nothing open begins an entity, a change of type ends one and
// begins the next, B always begins, E and S always end.
func (t *Tagger) extract(path []int32) []Span {
	var spans []Span
	open := -1 // token where the open entity began
	var kind int
	for i, label := range path {
		g := &t.tags[label]
		if open >= 0 && (g.role == outside || g.role == begin || g.role == single || g.id != kind) {
			spans = append(spans, t.span(path, open, i))
			open = -1
		}
		if g.role == outside {
			continue
		}
		if open < 0 {
			open, kind = i, g.id
		}
		if g.role == end || g.role == single {
			spans = append(spans, t.span(path, open, i+1))
			open = -1
		}
	}
	if open >= 0 {
		spans = append(spans, t.span(path, open, len(path)))
	}
	return spans
}

func (t *Tagger) span(path []int32, from, to int) Span {
	return Span{Type: t.tags[path[from]].kind, Start: from, End: to}
}

// SpansOf reads the entities off a sequence of tags such as an annotated
// file's, by the same rules as Decode. Score is 1.
func SpansOf(tags []string) []Span {
	parsed := parseLabels(tags)
	t := Tagger{tags: parsed}
	path := make([]int32, len(tags))
	for i := range path {
		path[i] = int32(i)
	}
	spans := t.extract(path)
	for i := range spans {
		spans[i].Score = 1
	}
	return spans
}
