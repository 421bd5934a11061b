package highlight

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// walk is where the tokenizer is in a page, as far as the marking cares.
type walk struct {
	// skipping is the element whose content is not marked, depth how many of
	// that name are open.
	skipping string
	depth    int
	kind     element
}

// runHTML tokenizes a page, keeping the bytes of every token as they are.
func (r *Rewriter) runHTML(src io.Reader) error {
	z := html.NewTokenizer(src)
	z.SetMaxBuf(r.o.MaxBuffer)
	xml := r.o.Format == FormatXHTML
	z.AllowCDATA(xml)
	var w walk
	for {
		kind := z.Next()
		base := len(r.b.raw)
		r.b.keep(z.Raw())
		switch kind {
		case html.ErrorToken:
			switch err := z.Err(); {
			case errors.Is(err, io.EOF):
				return r.end()
			case errors.Is(err, html.ErrBufferExceeded):
				r.note(ReasonBuffer)
				r.b.endBlock(base)
				r.send()
				return r.pass(z.Buffered())
			default:
				return err
			}
		case html.TextToken:
			// The names of raw-text elements begin a stretch that is skipped,
			// so what is not skipped here is text with references.
			cdata := xml && bytes.HasPrefix(r.b.raw[base:], []byte("<![CDATA["))
			if w.skipping == "" && !cdata {
				r.b.addText(r.b.raw[base:], base, r.dec, true)
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			r.startTag(z, &w, base, kind == html.SelfClosingTagToken, xml)
		case html.EndTagToken:
			r.endTag(z, &w, base)
		default: // comments, the doctype
		}
		if err := r.limits(); errors.Is(err, errGivenUp) {
			return r.pass(z.Buffered())
		} else if err != nil {
			return err
		}
	}
}

func (r *Rewriter) startTag(z *html.Tokenizer, w *walk, base int, selfClosing, xml bool) {
	name, hasAttr := z.TagName() // lower-cases z's bytes, not the copy in raw
	kind := r.element(name)
	if xml && selfClosing {
		z.NextIsNotRawText()
	}
	if w.skipping != "" {
		if string(name) == w.skipping && !selfClosing {
			w.depth++
		}
		// A paragraph ends where the next block begins, without an end tag.
		if w.skipping != "p" || kind != block {
			return
		}
		w.skipping = ""
	}
	foreign := string(name) == "svg" || string(name) == "math"
	void := voids[string(name)] || selfClosing && (xml || foreign)
	if hasAttr && r.handsOff(z, string(name)) {
		switch kind {
		case block:
			kind = skipBlock
		case inline:
			kind = skipLine
		default:
		}
	}
	switch kind {
	case block, skipBlock:
		r.b.endBlock(base)
	case barrier, skipLine:
		c := byte(' ')
		if string(name) == "br" {
			c = '\n'
		}
		r.b.barrier(base, c)
	default:
	}
	if !void && (kind == hidden || kind == skipLine || kind == skipBlock) {
		w.skipping, w.depth, w.kind = string(name), 1, kind
	}
}

func (r *Rewriter) endTag(z *html.Tokenizer, w *walk, base int) {
	name, _ := z.TagName()
	if w.skipping != "" {
		if string(name) != w.skipping {
			return
		}
		if w.depth--; w.depth > 0 {
			return
		}
		w.skipping = ""
		if w.kind == skipBlock {
			r.b.endBlock(len(r.b.raw))
		}
		return
	}
	if kind := r.element(name); kind == block || kind == skipBlock {
		r.b.endBlock(base)
	}
}

func (r *Rewriter) element(name []byte) element {
	e := elements[string(name)]
	if r.o.Skip[string(name)] {
		if e == inline {
			return skipLine
		}
		return skipBlock
	}
	if r.o.Include[string(name)] {
		switch e {
		case skipLine:
			return inline
		case skipBlock:
			return block
		default:
		}
	}
	return e
}

// handsOff looks through a tag's attributes for what says that its content must
// stay as it is: contenteditable, translate=no, the class notranslate,
// data-ner=off. It also takes note of a policy in a <meta>.
func (r *Rewriter) handsOff(z *html.Tokenizer, name string) (off bool) {
	var httpEquiv, content string
	for more := true; more; {
		var key, value []byte
		key, value, more = z.TagAttr()
		switch string(key) {
		case "contenteditable":
			off = off || !bytes.EqualFold(value, []byte("false"))
		case "translate":
			off = off || bytes.EqualFold(value, []byte("no"))
		case "data-ner":
			off = off || bytes.EqualFold(value, []byte("off"))
		case "class":
			off = off || bytes.Contains(value, []byte("notranslate")) &&
				slices.Contains(strings.Fields(string(value)), "notranslate")
		case "http-equiv":
			httpEquiv = string(value)
		case "content":
			if name == "meta" {
				content = string(value)
			}
		}
	}
	if name == "meta" && strings.EqualFold(httpEquiv, "content-security-policy") {
		r.o.Policy.Add(content)
	}
	return off
}
