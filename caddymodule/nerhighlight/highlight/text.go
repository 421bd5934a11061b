package highlight

import (
	"bytes"
	"html"
	"unicode/utf8"
)

// addText adds a run of text that was just appended to raw at base. In HTML its
// character references are resolved.
func (b *batch) addText(run []byte, base int, d *decoder, references bool) {
	if last := len(b.nodes) - 1; last >= 0 && int(b.nodes[last].end) == base {
		b.nodes[last].end += int32(len(run)) // no tag between
	} else {
		b.nodes = append(b.nodes, place32{int32(base), int32(base + len(run))})
	}
	for i := 0; i < len(run); {
		c := run[i]
		at := int32(base + i)
		switch {
		case c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f':
			b.blank(c, at)
			i++
		case c == '&' && references:
			n, text := reference(run[i:])
			for _, r := range text {
				b.rune(r, at, at+int32(n))
			}
			i += n
		case c < utf8.RuneSelf:
			b.ascii(c, at)
			i++
		default:
			text, n := d.decodeOne(run[i:])
			for len(text) > 0 {
				r, size := utf8.DecodeRune(text)
				b.rune(r, at, at+int32(n))
				text = text[size:]
			}
			i += n
		}
	}
}

// maxReference is longer than HTML's longest name, &CounterClockwiseContourIntegral;.
const maxReference = 40

// reference resolves the character reference at the beginning of run, which
// begins with &. It is one unit of n bytes, whatever it stands for. An & that
// begins none stands for itself.
func reference(run []byte) (n int, text string) {
	n = 1
	for n < min(len(run), maxReference) {
		c := run[n]
		if c == ';' {
			n++
			break
		}
		if alphanumeric := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'; !alphanumeric && (c != '#' || n != 1) {
			break
		}
		n++
	}
	whole := string(run[:n])
	text = html.UnescapeString(whole)
	if text == whole {
		return 1, "&"
	}
	return n, text
}

// blankBytes says whether b is white space of HTML.
func blankBytes(b []byte) bool { return len(bytes.Trim(b, " \n\t\r\f")) == 0 }
