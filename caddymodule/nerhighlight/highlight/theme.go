package highlight

import (
	_ "embed"
	"fmt"
	"strings"
)

// Theme chooses the colours of pages and marks.
type Theme string

const (
	// ThemeAuto follows the reader's system on our own pages; on annotated
	// pages, whose background we do not know, it is ThemeLight.
	ThemeAuto Theme = "auto"
	// ThemeNeon is bright lines on near-black.
	ThemeNeon Theme = "neon"
	// ThemeLight is near-black text on tints.
	ThemeLight Theme = "light"
)

// Themes lists the values of Theme.
func Themes() []Theme { return []Theme{ThemeAuto, ThemeNeon, ThemeLight} }

// scheme holds the colours of one theme apart from the types'.
type scheme struct{ page, card, text, dim, line rgb }

var (
	neon  = scheme{hex("#0a0a0f"), hex("#14141f"), hex("#ececf4"), hex("#a3a3ba"), hex("#34344a")}
	light = scheme{hex("#f5f5f9"), hex("#ffffff"), hex("#16161f"), hex("#565669"), hex("#c9c9d8")}
)

// colors of one type in one scheme.
type colors struct {
	ink  rgb // the words
	fill rgb // behind them, opaque: it must be legible on any page
	edge rgb // the line, and the background of the label
	tag  rgb // the label's words
}

// style is how a type looks: colours, and a line that tells it from others
// without colour.
type style struct {
	class       string
	line        string // CSS: thickness and kind
	neon, light colors
}

// generatedLooks is the number of looks for types without one of their own.
const generatedLooks = 12

// The lines tell types apart where colours do not: on paper, in forced colours,
// and for the one man in twelve who confuses red and yellow.
var fixedStyles = []struct {
	types []string
	line  string
	neon  string // on near-black
	edge  string // on white, with white words
	tint  string // laid over white
}{
	{[]string{"PER"}, "3px solid", "#ff5c66", "#c21820", "#ff5c66"},
	{[]string{"LOC", "GPE"}, "3px dashed", "#00e5ff", "#00667a", "#00cfe8"},
	{[]string{"ORG"}, "4px double", "#ffe600", "#7a6000", "#ffdf3d"},
	{[]string{"DATE", "TIME"}, "3px dotted", "#b388ff", "#5e35b1", "#b388ff"},
}

var generatedLines = []string{"2px dotted", "2px dashed", "2px solid", "4px double"}

// styles of all types, the fixed ones first.
var styles = func() []style {
	var list []style
	for _, f := range fixedStyles {
		for _, t := range f.types {
			n, edge, tint := hex(f.neon), hex(f.edge), hex(f.tint)
			list = append(list, style{
				class: "ner-" + t, line: f.line,
				neon:  colors{n, n.mix(0.16, neon.page), n, neon.page},
				light: colors{light.text, tint.mix(0.30, light.card), edge, light.card},
			})
		}
	}
	for i := range generatedLooks {
		// Hues between those of the fixed types: green to blue-violet to pink.
		hue := float64((80 + i*95) % 360)
		n := legible(hue, 0.75, 8, neon.page)
		edge := legible(hue, 0.65, 5.5, light.card)
		list = append(list, style{
			class: fmt.Sprintf("ner-x%d", i), line: generatedLines[i%len(generatedLines)],
			neon:  colors{n, n.mix(0.14, neon.page), n, neon.page},
			light: colors{light.text, edge.mix(0.16, light.card), edge, light.card},
		})
	}
	return list
}()

// fixedLook says whether a canonical type has a look of its own.
func fixedLook(canonical string) (string, bool) {
	for _, f := range fixedStyles {
		for _, t := range f.types {
			if t == canonical {
				return t, true
			}
		}
	}
	return "", false
}

//go:embed mark.css
var markCSS string

//go:embed page.css
var pageCSS string

// MarkStyles is the style sheet for annotated pages: it touches nothing but the
// marks, whose background is opaque, so that they are legible on any page.
func MarkStyles(theme Theme) string {
	var b strings.Builder
	writeMarks(&b, theme)
	return b.String()
}

// PageStyles is the style sheet of our own pages, marks included.
func PageStyles(theme Theme) string {
	var b strings.Builder
	switch theme {
	case ThemeNeon:
		writeScheme(&b, "dark", neon)
	case ThemeLight:
		writeScheme(&b, "light", light)
	default:
		writeScheme(&b, "dark", neon)
		b.WriteString("@media (prefers-color-scheme: light) {\n")
		writeScheme(&b, "light", light)
		b.WriteString("}\n")
	}
	b.WriteString(pageCSS)
	if theme == ThemeNeon || theme == ThemeLight {
		writeMarks(&b, theme)
		return b.String()
	}
	writeMarks(&b, ThemeNeon)
	b.WriteString("@media (prefers-color-scheme: light) {\n")
	writeColors(&b, ThemeLight)
	b.WriteString("}\n@media print {\n")
	writeColors(&b, ThemeLight)
	b.WriteString("}\n")
	return b.String()
}

func writeScheme(b *strings.Builder, name string, s scheme) {
	fmt.Fprintf(b, ":root { color-scheme: %s; --page: %s; --card: %s; --text: %s; --dim: %s; --line: %s; }\n",
		name, s.page, s.card, s.text, s.dim, s.line)
}

func writeMarks(b *strings.Builder, theme Theme) {
	writeColors(b, theme)
	for _, s := range styles {
		fmt.Fprintf(b, ".%s { --ner-line: %s; }\n", s.class, s.line)
	}
	b.WriteString(markCSS)
}

func writeColors(b *strings.Builder, theme Theme) {
	for _, s := range styles {
		c := s.light
		if theme == ThemeNeon {
			c = s.neon
		}
		fmt.Fprintf(b, ".%s { --ner-ink: %s; --ner-fill: %s; --ner-edge: %s; --ner-tag: %s; }\n", s.class, c.ink, c.fill, c.edge, c.tag)
	}
}
