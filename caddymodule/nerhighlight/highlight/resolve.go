package highlight

import (
	"cmp"
	"errors"
	"slices"
	"strings"
)

// mention is an entity as an answer has it, before its place is known.
type mention struct {
	label string
	word  string // "" where the answer does not repeat the words
	// start and end as the answer counts them, with placed.
	start, end int
	placed     bool
	score      float64
	hasScore   bool
}

// piece is a stretch of text from an answer that gives the whole text in
// stretches, with or without a label.
type piece struct {
	text     string
	label    string
	score    float64
	hasScore bool
}

// answer is one text's part of an answer.
type answer struct {
	text     string
	hasText  bool
	mentions []mention
	// systems in which the format may count, the usual one first. Others are
	// tried where the words show that none of these fits.
	systems []system
	// uncertain says that the format does not tell which of the systems it
	// used: without words to check against, only offsets that mean the same
	// in all of them are believed.
	uncertain bool
	// tokens of the text, when the offsets count these.
	tokens []string
	// pieces, when the answer is the text itself, cut up.
	pieces []piece
	scores []Score
}

var (
	exclusive = []system{{unit: codePoints}}
	utf16     = []system{{unit: utf16Units}}

	// everySystem in the order of how common they are.
	everySystem = []system{
		{codePoints, false},
		{utf16Units, false},
		{codePoints, true},
		{byteUnits, false},
		{graphemeUnits, false},
		{utf16Units, true},
		{byteUnits, true},
		{graphemeUnits, true},
	}
)

// errNoText says that an answer has entities but nobody has the text.
var errNoText = errors.New("the answer does not contain the text, and the request's is not known")

// resolve gives every mention its place in the text. The answer's own text goes
// before the request's: a service may have normalised it.
func (a *answer) resolve(requestText string, knowRequest bool) (Document, error) {
	text, known := a.text, a.hasText
	if !known {
		text, known = requestText, knowRequest
	}
	if a.scores != nil {
		return Document{Text: text, Scores: a.scores}, nil
	}
	if !known {
		switch {
		case a.pieces != nil:
			text = joinPieces(a.pieces)
		case a.tokens != nil:
			text = joinTokens(a.tokens)
		default:
			return Document{}, errNoText
		}
	}
	x := newTextIndex(strings.ToValidUTF8(text, "\uFFFD"))
	r := resolver{x: x}
	switch {
	case a.pieces != nil:
		r.pieces(a.pieces)
	case a.tokens != nil:
		r.tokens(a.tokens, a.mentions)
	default:
		r.mentions(a)
	}
	return Document{Text: x.text, Entities: tidy(x, r.placed), Dropped: r.dropped}, nil
}

// resolver collects the entities of one document.
type resolver struct {
	x       *textIndex
	placed  []located
	dropped int
}

// located is a mention in its place, with its label still as it came.
type located struct {
	mention
	from, to int
}

func (r *resolver) put(m mention, from, to int) {
	if len(r.placed) >= maxEntities {
		r.dropped++
		return
	}
	r.placed = append(r.placed, located{m, from, to})
}

func (r *resolver) mentions(a *answer) {
	s, verified := r.chooseSystem(a)
	var unplaced []mention
	for _, m := range a.mentions {
		if !m.placed {
			unplaced = append(unplaced, m)
			continue
		}
		from, to, ok := r.x.span(s, m.start, m.end)
		switch {
		case ok && m.word != "" && sameWord(m.word, r.x.slice(from, to)):
			r.put(m, from, to)
		case m.word != "": // the words are right, the offsets are not
			if from, to, ok := r.x.search().only(foldWord(m.word)); ok {
				r.put(m, from, to)
			} else {
				r.dropped++
			}
		case ok && (verified || !a.uncertain || r.agree(a.systems, m)):
			r.put(m, from, to)
		default:
			r.dropped++
		}
	}
	r.byWords(unplaced)
}

// chooseSystem returns the way of counting under which most mentions lie on
// their own words: one for the whole answer, because single words may well
// occur again where another way of counting points. verified says that words
// speak for it.
func (r *resolver) chooseSystem(a *answer) (best system, verified bool) {
	tried := a.systems
	for _, s := range everySystem {
		if !slices.Contains(a.systems, s) {
			tried = append(slices.Clip(tried), s)
		}
	}
	checkable := 0
	for _, m := range a.mentions {
		if m.placed && m.word != "" {
			checkable++
		}
	}
	best = tried[0]
	most := 0
	for _, s := range tried {
		if most == checkable {
			break
		}
		fits := 0
		for _, m := range a.mentions {
			if !m.placed || m.word == "" {
				continue
			}
			if from, to, ok := r.x.span(s, m.start, m.end); ok && sameWord(m.word, r.x.slice(from, to)) {
				fits++
			}
		}
		if fits > most {
			best, most = s, fits
		}
	}
	return best, most > 0
}

// agree says whether offsets mean the same in every system.
func (r *resolver) agree(systems []system, m mention) bool {
	from, to, ok := r.x.span(systems[0], m.start, m.end)
	for _, s := range systems[1:] {
		f, t, o := r.x.span(s, m.start, m.end)
		if f != from || t != to || !o {
			return false
		}
	}
	return ok
}

// tokens places mentions whose offsets count tokens.
func (r *resolver) tokens(tokens []string, mentions []mention) {
	at, ok := placeInOrder(r.x, tokens)
	if !ok {
		r.dropped += len(mentions)
		return
	}
	inside := func(m mention, end int) (from, to int, ok bool) {
		if m.start >= end || end > len(at) {
			return 0, 0, false
		}
		from, to = at[m.start].from, at[end-1].to
		return from, to, from < to && (m.word == "" || sameWord(m.word, r.x.slice(from, to)))
	}
	for _, m := range mentions {
		from, to, ok := 0, 0, false
		if m.placed {
			if from, to, ok = inside(m, m.end); !ok && m.word != "" {
				from, to, ok = inside(m, m.end+1) // LTP counts the last token in
			}
		}
		if !ok {
			r.dropped++
			continue
		}
		r.put(m, from, to)
	}
}

func (r *resolver) pieces(pieces []piece) {
	words := make([]string, len(pieces))
	for i, p := range pieces {
		words[i] = p.text
	}
	at, ok := placeInOrder(r.x, words)
	for i, p := range pieces {
		if isOutside(p.label) {
			continue
		}
		if !ok || at[i].from == at[i].to {
			r.dropped++
			continue
		}
		r.put(mention{label: p.label, score: p.score, hasScore: p.hasScore}, at[i].from, at[i].to)
	}
}

// maxEntities bounds the work and the page that one document can ask for.
const maxEntities = 10_000

// tidy turns located mentions into sorted entities: tags of a scheme are
// joined, doubles go.
func tidy(x *textIndex, list []located) []Entity {
	slices.SortStableFunc(list, func(a, b located) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to))
	})
	entities := joinTags(x, list)
	slices.SortStableFunc(entities, func(a, b Entity) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End), cmp.Compare(a.Label, b.Label))
	})
	return slices.CompactFunc(entities, func(a, b Entity) bool {
		return a.Start == b.Start && a.End == b.End && a.Label == b.Label
	})
}
