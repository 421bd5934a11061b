package highlight

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// look is what the mark-up of one entity is made of.
type look struct {
	class string // its style class
	label string // canonical, fit to be shown
	raw   string // as the model wrote it, where that differs
	score string // "0.981", or ""
	title string // "PER 98 %"
}

func lookOf(e Entity) look {
	raw := cleanLabel(e.Label)
	canonical := cleanLabel(canonicalType(e.Label))
	l := look{class: class(canonical), label: canonical, title: canonical}
	if raw != canonical {
		l.raw = raw
		l.title += " (" + raw + ")"
	}
	if e.HasScore && e.Score >= 0 && e.Score <= 1 {
		l.score = strconv.FormatFloat(math.Round(e.Score*1000)/1000, 'f', -1, 64)
		l.title += " " + percent(e.Score)
	}
	return l
}

// percent never rounds to certainty: 99.97 % is not 100 %.
func percent(p float64) string {
	decimals := 0
	if p != 1 && p > 0.99 || p != 0 && p < 0.01 {
		decimals = 2
		p = min(max(p, 0.0001), 0.9999)
		if p > 0.5 {
			p = math.Floor(p*10000) / 10000
		}
	}
	return strconv.FormatFloat(100*p, 'f', decimals, 64) + " %"
}

// appendOpen appends the start tag of a mark. last says that no later segment
// is under the same entity: there its label is drawn, by the style sheet, so
// that copied text stays clean. id, from 1, tells the marks of one entity.
func appendOpen(b []byte, l look, id int, last bool) []byte {
	b = append(b, `<mark class="ner `...)
	b = append(b, l.class...)
	b = append(b, `" data-ner-id="`...)
	b = strconv.AppendInt(b, int64(id), 10)
	if last {
		b = append(b, `" data-label="`...)
	} else {
		b = append(b, `" data-type="`...)
	}
	b = appendAttr(b, l.label)
	if l.raw != "" {
		b = append(b, `" data-raw="`...)
		b = appendAttr(b, l.raw)
	}
	if l.score != "" {
		b = append(b, `" data-score="`...)
		b = append(b, l.score...)
	}
	b = append(b, `" title="`...)
	b = appendAttr(b, l.title)
	return append(b, `">`...)
}

const closeMark = "</mark>"

// appendEscaped appends text so that it stays text in HTML, in content and in
// quoted attributes. Characters that HTML has no room for become U+FFFD.
func appendEscaped(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '"':
			b = append(b, "&#34;"...)
		case r == '\'':
			b = append(b, "&#39;"...)
		case r == '\r': // a parser would make a newline of it
			b = append(b, "&#13;"...)
		case r < ' ' && r != '\n' && r != '\t' && r != '\f', r == 0x7f:
			b = append(b, "\uFFFD"...)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// appendAttr appends the value of an attribute in ASCII, which is the same in
// every Charset.
func appendAttr(b []byte, s string) []byte {
	for _, r := range s {
		if r >= utf8.RuneSelf {
			b = append(b, "&#"...)
			b = strconv.AppendInt(b, int64(r), 10)
			b = append(b, ';')
			continue
		}
		b = appendEscaped(b, string(r))
	}
	return b
}
