package highlight

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// Fragment renders documents as HTML to be put into another page, which brings
// the style sheet (PageStyles or MarkStyles). It has no script and no inline
// style, so any content security policy lets it be.
//
// Each document is its text with nested marks, a legend, and a list of the
// entities that only screen readers show.
func Fragment(docs []Document) []byte {
	b := make([]byte, 0, 1024)
	for _, d := range docs {
		b = appendDocument(b, d)
	}
	return b
}

// Page renders documents as a page that stands alone. policy is the content
// security policy to send with it.
func Page(docs []Document, theme Theme) (page []byte, policy string) {
	css := PageStyles(theme)
	sum := sha256.Sum256([]byte(css))
	policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'"
	b := make([]byte, 0, len(css)+4096)
	b = append(b, "<!doctype html>\n<html lang=\"zh\">\n<head>\n<meta charset=\"utf-8\">\n"+
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>"...)
	b = append(b, title(docs)...)
	b = append(b, "</title>\n<style>"...)
	b = append(b, css...)
	b = append(b, "</style>\n</head>\n<body>\n<main>\n<h1 lang=\"en\">"...)
	b = append(b, title(docs)...)
	b = append(b, "</h1>\n"...)
	for _, d := range docs {
		b = appendDocument(b, d)
	}
	b = append(b, "</main>\n</body>\n</html>\n"...)
	return b, policy
}

func title(docs []Document) string {
	for _, d := range docs {
		if d.Scores == nil {
			return "Named entities"
		}
	}
	return "Classification"
}

func appendDocument(b []byte, d Document) []byte {
	b = append(b, "<section class=\"ner-doc\">\n"...)
	if d.Scores != nil {
		b = appendScores(b, d)
	} else {
		b = appendEntities(b, d)
	}
	return append(b, "</section>\n"...)
}

func appendEntities(b []byte, d Document) []byte {
	looks := make([]look, len(d.Entities))
	for i, e := range d.Entities {
		looks[i] = lookOf(e)
	}
	b = appendLegend(b, looks)
	x := newTextIndex(strings.ToValidUTF8(d.Text, "\uFFFD"))
	list, undrawn := segments(len(x.runes), d.Entities)
	b = append(b, `<p class="ner-text" dir="auto">`...)
	for _, s := range list {
		for _, i := range s.over {
			b = appendOpen(b, looks[i], i+1, s.end == d.Entities[i].End)
		}
		b = appendEscaped(b, x.slice(s.start, s.end))
		for range s.over {
			b = append(b, closeMark...)
		}
	}
	b = append(b, "</p>\n"...)
	b = appendList(b, x, d.Entities, looks)
	return appendNote(b, len(d.Entities), d.Dropped+undrawn)
}

// appendLegend tells what the colours and lines mean, and how often each type
// occurs.
func appendLegend(b []byte, looks []look) []byte {
	counts := map[string]int{}
	var order []look
	for _, l := range looks {
		if counts[l.label]++; counts[l.label] == 1 {
			order = append(order, l)
		}
	}
	if len(order) == 0 {
		return b
	}
	slices.SortStableFunc(order, func(x, y look) int { return cmp.Compare(rank(x.class), rank(y.class)) })
	b = append(b, "<ul class=\"ner-legend\" lang=\"en\">\n"...)
	for _, l := range order {
		b = append(b, `<li class="`...)
		b = append(b, l.class...)
		b = append(b, `">`...)
		b = appendEscaped(b, l.label)
		if name := typeNames[l.label]; name != "" {
			b = append(b, ' ')
			b = append(b, name...)
		}
		b = append(b, " · "...)
		b = strconv.AppendInt(b, int64(counts[l.label]), 10)
		b = append(b, "</li>\n"...)
	}
	return append(b, "</ul>\n"...)
}

var typeNames = map[string]string{
	"PER": "person", "LOC": "place", "ORG": "organisation", "GPE": "country or city", "DATE": "date", "TIME": "time",
}

// rank puts the fixed types first.
func rank(class string) int {
	return slices.IndexFunc(styles, func(s style) bool { return s.class == class })
}

// appendList says in words what the marks show: screen readers announce marks
// and generated labels unevenly.
func appendList(b []byte, x *textIndex, entities []Entity, looks []look) []byte {
	if len(entities) == 0 {
		return b
	}
	b = append(b, "<ol class=\"ner-hidden\" aria-label=\"Entities\">\n"...)
	for i, e := range entities {
		if e.Start < 0 || e.End > len(x.runes) || e.Start >= e.End {
			continue
		}
		b = append(b, "<li>"...)
		b = appendEscaped(b, x.slice(e.Start, e.End))
		b = append(b, ": "...)
		b = appendEscaped(b, looks[i].title)
		b = append(b, "</li>\n"...)
	}
	return append(b, "</ol>\n"...)
}

func appendNote(b []byte, found, dropped int) []byte {
	if found > 0 && dropped == 0 {
		return b
	}
	b = append(b, `<p class="ner-note" lang="en">`...)
	if found == 0 {
		b = append(b, "No entities found."...)
	}
	if dropped > 0 {
		if found == 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(dropped), 10)
		b = append(b, " not shown: their place in the text is not certain."...)
	}
	return append(b, "</p>\n"...)
}

func appendScores(b []byte, d Document) []byte {
	if d.Text != "" {
		b = append(b, `<p class="ner-text" dir="auto">`...)
		b = appendEscaped(b, d.Text)
		b = append(b, "</p>\n"...)
	}
	b = append(b, "<table class=\"ner-scores\">\n"...)
	for _, s := range d.Scores {
		value := strconv.FormatFloat(s.Score, 'f', 4, 64)
		b = append(b, `<tr><th scope="row">`...)
		b = appendEscaped(b, cleanLabel(s.Label))
		b = append(b, `</th><td><meter min="0" max="1" value="`...)
		b = append(b, value...)
		b = append(b, `">`...)
		b = append(b, percent(s.Score)...)
		b = append(b, "</meter></td><td>"...)
		b = append(b, percent(s.Score)...)
		b = append(b, "</td></tr>\n"...)
	}
	return append(b, "</table>\n"...)
}
