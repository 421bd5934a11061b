package highlight

import (
	"cmp"
	"slices"
)

// maxNesting is how many entities may lie over one character. Those beyond it
// are not drawn: nobody could tell them apart, and the mark-up would grow with
// their square.
const maxNesting = 6

// segment is a stretch of text under the same entities.
type segment struct {
	start, end int
	// over are indexes of the entities, the outermost first.
	over []int
}

// segments cuts [0, length) wherever an entity begins or ends, so that marks
// around single segments nest properly however entities overlap. It returns
// beside them the entities that are not drawn. Entities must be sorted by
// start, then by falling end.
func segments(length int, entities []Entity) (list []segment, undrawn int) {
	type edge struct {
		at     int
		begin  bool
		entity int
	}
	edges := make([]edge, 0, 2*len(entities))
	for i, e := range entities {
		if e.Start < 0 || e.End > length || e.Start >= e.End {
			undrawn++
			continue
		}
		edges = append(edges, edge{e.Start, true, i}, edge{e.End, false, i})
	}
	// Ends before beginnings, so that a slot is free again.
	slices.SortStableFunc(edges, func(a, b edge) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		switch {
		case a.begin == b.begin:
			return cmp.Compare(a.entity, b.entity)
		case a.begin:
			return 1
		}
		return -1
	})
	var over []int
	at := 0
	for _, e := range edges {
		if e.at > at {
			list = append(list, segment{at, e.at, slices.Clone(over)})
			at = e.at
		}
		if !e.begin {
			if i := slices.Index(over, e.entity); i >= 0 {
				over = slices.Delete(over, i, i+1)
			}
			continue
		}
		if len(over) == maxNesting {
			undrawn++
			continue
		}
		over = append(over, e.entity)
	}
	if at < length {
		list = append(list, segment{at, length, nil})
	}
	return list, undrawn
}
