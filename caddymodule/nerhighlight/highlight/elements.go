package highlight

// element says what a tag means for the text around it.
type element uint8

const (
	block     element = iota // ends a block: everything not named below
	inline                   // part of a line: an entity may cross it
	barrier                  // an object in a line: no entity crosses it
	hidden                   // what is in it is not text of the page at all
	skipLine                 // not to be marked, in a line
	skipBlock                // not to be marked, a block of its own
)

// elements by name, in lower case. Content of the skipped ones is code, form
// controls, other languages' mark-up, or the site's own marks.
var elements = func() map[string]element {
	m := make(map[string]element)
	for e, names := range map[element][]string{
		inline: {
			"a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "data", "del", "dfn", "em", "font", "i", "ins",
			"label", "q", "rb", "rtc", "ruby", "s", "slot", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "wbr",
		},
		barrier: {"br", "img", "input", "embed", "area"},
		hidden: {
			"script", "style", "template", "noscript", "rt", "rp", "meta", "link", "base", "source", "track", "param",
		},
		skipLine: {
			"button", "select", "datalist", "object", "svg", "math", "canvas", "audio", "video", "code", "kbd", "samp", "var",
			"mark", "meter", "progress", "output",
		},
		skipBlock: {
			"title", "textarea", "iframe", "noembed", "noframes", "xmp", "listing", "plaintext", "pre", "option",
		},
	} {
		for _, name := range names {
			m[name] = e
		}
	}
	return m
}()

// voids never have content, so they cannot open a stretch that is skipped.
var voids = map[string]bool{
	"area": true, "base": true, "br": true, "col": true, "embed": true, "hr": true, "img": true, "input": true,
	"link": true, "meta": true, "param": true, "source": true, "track": true, "wbr": true,
}

// Includable says whether an element that is skipped by default may be marked:
// the mark-up of the others could not hold a mark, or browsers read them in
// another way.
func Includable(name string) bool {
	switch name {
	case "pre", "code", "kbd", "samp", "var", "mark", "output", "button", "object", "listing":
		return true
	}
	return false
}
