package highlight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"sort"
)

// failuresToGiveUp in a row, and the rest of the page passes: a dead model must
// not cost the page a timeout for each batch.
const failuresToGiveUp = 2

// errGivenUp ends the tokenizing: the rest of the page passes.
var errGivenUp = errors.New("the rest passes")

// Rewriter marks the entities in a page that is written to it, and writes the
// page on as its blocks finish. Nothing of the page is changed: apart from the
// marks, and a link to their style sheet before the first one, the bytes are
// those that came. On any failure they are all that is written.
//
// It is not safe for concurrent use.
type Rewriter struct {
	ctx   context.Context
	w     io.Writer
	o     Options
	pull  *Pull
	dec   *decoder
	b     batch
	out   []byte // being put together
	stats Stats

	failures int
	nextID   int
	linked   bool // the style sheet is, or must not be
	givenUp  bool // the model is not asked any more
	passing  bool // everything is passed on
	writeErr error
}

// NewRewriter returns a Rewriter that writes to w. Close or Stop must be called
// in the end.
func NewRewriter(ctx context.Context, w io.Writer, o Options) *Rewriter {
	o.setDefaults()
	r := &Rewriter{ctx: ctx, w: w, o: o, dec: newDecoder(o.Charset)}
	r.b.space = -1
	run := r.runHTML
	if o.Format == FormatText {
		run = r.runText
	}
	r.pull = NewPull(run)
	return r
}

// Write takes a part of the page.
func (r *Rewriter) Write(p []byte) (int, error) {
	if r.passing {
		return r.w.Write(p)
	}
	n, err := r.pull.Write(p)
	switch {
	case err != nil:
	case !r.passing:
		err = r.sendUnneeded()
	case len(r.pull.Left()) > 0:
		_, err = r.w.Write(r.pull.Left())
	}
	return n, err
}

// Flush writes on what is finished: everything before the block that is still
// open.
func (r *Rewriter) Flush() error {
	if !r.passing {
		r.send()
	}
	return r.writeErr
}

// Close writes on the rest.
func (r *Rewriter) Close() error {
	err := r.pull.Close()
	return errors.Join(err, r.writeErr)
}

// Stop gives up what is held back, after a failure of whoever reads or writes.
func (r *Rewriter) Stop() { r.pull.Stop() }

// Stats of the page so far.
func (r *Rewriter) Stats() Stats { return r.stats }

// end is called at the end of the page.
func (r *Rewriter) end() error {
	r.b.endBlock(len(r.b.raw))
	r.send()
	return r.writeErr
}

// sendUnneeded writes on the bytes that no finished block is waiting before.
func (r *Rewriter) sendUnneeded() error {
	if len(r.b.blocks) == 0 && len(r.b.raw) > 0 {
		if n := r.b.sendable(); n > 0 {
			r.writeRaw(r.b.raw[:n])
			r.flushOut()
			r.b.sent(n)
		}
	}
	return r.writeErr
}

// limits asks the model when enough has gathered.
func (r *Rewriter) limits() error {
	b := &r.b
	if len(b.at)-b.open.at > r.o.MaxBlock {
		b.cutBlock(r.o.MaxBlock)
	}
	if len(b.raw) >= r.o.MaxBuffer && len(b.at) > b.open.at {
		b.endBlock(len(b.raw))
	}
	if b.open.at >= r.o.MaxBatch || len(b.blocks) >= r.o.MaxBlocks || len(b.raw) >= r.o.MaxBuffer {
		r.send()
	} else if len(b.blocks) == 0 && len(b.raw) >= 16<<10 {
		_ = r.sendUnneeded()
	}
	if r.writeErr != nil {
		return r.writeErr
	}
	if r.givenUp && r.o.Format != FormatText { // text must go on being escaped
		return errGivenUp
	}
	return nil
}

// send asks the model about the finished blocks and writes on everything before
// the open one.
func (r *Rewriter) send() {
	b := &r.b
	n := b.sendable()
	done := 0
	for first := 0; first < len(b.blocks); {
		last := first + 1
		for last < len(b.blocks) && last-first < r.o.MaxBlocks && b.blocks[last].atEnd-b.blocks[first].at <= r.o.MaxBatch {
			last++
		}
		found := r.find(b.blocks[first:last])
		for i, entities := range found {
			done = r.mark(b.blocks[first+i], entities, done)
		}
		first = last
	}
	r.writeRaw(b.raw[done:n])
	r.flushOut()
	b.sent(n)
}

// find asks the model. No answer is no reason to hold the page up: it is nil
// then.
func (r *Rewriter) find(blocks []textRange) [][]Entity {
	left := r.o.Budget - r.stats.Model
	switch {
	case r.givenUp:
		return nil
	case r.stats.Calls >= r.o.MaxCalls:
		r.giveUp(ReasonCalls)
		return nil
	case left <= 0:
		r.giveUp(ReasonTimeout)
		return nil
	}
	texts := make([]string, len(blocks))
	for i, t := range blocks {
		texts[i] = string(r.b.text[t.text:t.textEnd])
	}
	r.stats.Calls++
	r.stats.Blocks += len(blocks)
	ctx, cancel := context.WithTimeout(r.ctx, min(r.o.Timeout, left))
	defer cancel()
	begin := r.o.now()
	found, err := r.o.Find(ctx, texts)
	r.stats.Model += r.o.now().Sub(begin)
	if err == nil && len(found) != len(texts) {
		err = fmt.Errorf("%d answers for %d texts", len(found), len(texts))
	}
	if err == nil {
		r.failures = 0
		return found
	}
	reason := ReasonError
	if errors.Is(err, context.DeadlineExceeded) {
		reason = ReasonTimeout
	}
	r.note(reason)
	if r.failures++; r.failures >= failuresToGiveUp {
		r.giveUp(reason)
	}
	return nil
}

func (r *Rewriter) note(reason string) {
	if r.stats.Reason == "" {
		r.stats.Reason = reason
	}
}

func (r *Rewriter) giveUp(reason string) {
	r.note(reason)
	r.givenUp = true
}

// mark writes a block with its entities, from byte done of raw on, and returns
// up to where.
func (r *Rewriter) mark(t textRange, entities []Entity, done int) int {
	b := &r.b
	at := b.at[t.at:t.atEnd]
	kept := make([]Entity, 0, min(len(entities), len(at)))
	for _, e := range entities {
		if len(kept) < len(at) && b.markable(t, e) {
			kept = append(kept, e)
		} else {
			r.stats.Dropped++
		}
	}
	if len(kept) == 0 {
		return done
	}
	sort.SliceStable(kept, func(i, j int) bool {
		return kept[i].Start < kept[j].Start || kept[i].Start == kept[j].Start && kept[i].End > kept[j].End
	})
	list, undrawn := segments(len(at), kept)
	r.stats.Dropped += undrawn
	r.stats.Entities += len(kept) - undrawn
	firstID := r.nextID
	r.nextID += len(kept)
	for _, s := range list {
		if len(s.over) == 0 {
			continue
		}
		start, end := at[s.start].start, at[s.end-1].end
		node := sort.Search(len(b.nodes), func(i int) bool { return b.nodes[i].end > start })
		for ; node < len(b.nodes) && b.nodes[node].start < end; node++ {
			from, to := int(max(start, b.nodes[node].start)), int(min(end, b.nodes[node].end))
			if from >= to || blankBytes(b.raw[from:to]) {
				continue
			}
			r.writeRaw(b.raw[done:from])
			r.link()
			for _, i := range s.over {
				last := int(at[kept[i].End-1].end) == to
				r.open(kept[i], firstID+i+1, last)
			}
			r.writeRaw(b.raw[from:to])
			for range s.over {
				r.close()
			}
			done = to
		}
	}
	return done
}

// symbols stand for marks in tests: bytes that no page has.
const openSymbol, closeSymbol = "\x00\x01<\x02", "\x00\x01>\x02"

func (r *Rewriter) open(e Entity, id int, last bool) {
	if r.o.symbols {
		r.out = append(r.out, openSymbol...)
		return
	}
	r.out = appendOpen(r.out, lookOf(e), id, last)
}

func (r *Rewriter) close() {
	if r.o.symbols {
		r.out = append(r.out, closeSymbol...)
		return
	}
	r.out = append(r.out, closeMark...)
}

// link puts the style sheet before the first mark: pages without any stay as
// they are, and by then all policies in the page's head are known.
func (r *Rewriter) link() {
	if r.linked || r.o.symbols {
		return
	}
	r.linked = true
	if r.o.Stylesheet == "" {
		return
	}
	nonce, ok := r.o.Policy.Stylesheet(r.o.Host)
	if !ok {
		return
	}
	r.out = append(r.out, `<link rel="stylesheet" href="`...)
	r.out = append(r.out, html.EscapeString(r.o.Stylesheet)...)
	if nonce != "" {
		r.out = append(r.out, `" nonce="`...)
		r.out = append(r.out, nonce...)
	}
	r.out = append(r.out, `"/>`...)
}

// writeRaw writes bytes of the page.
func (r *Rewriter) writeRaw(raw []byte) {
	if r.o.Format != FormatText {
		r.out = append(r.out, raw...)
		return
	}
	for len(raw) > 0 {
		i := bytes.IndexAny(raw, "<>&\x00\r")
		if i < 0 {
			r.out = append(r.out, raw...)
			return
		}
		r.out = append(r.out, raw[:i]...)
		switch raw[i] {
		case '<':
			r.out = append(r.out, "&lt;"...)
		case '>':
			r.out = append(r.out, "&gt;"...)
		case '&':
			r.out = append(r.out, "&amp;"...)
		case '\r': // a parser would make a newline of it
			r.out = append(r.out, "&#13;"...)
		default: // HTML has no place for it
			r.out = append(r.out, "&#xFFFD;"...)
		}
		raw = raw[i+1:]
	}
}

func (r *Rewriter) flushOut() {
	if len(r.out) > 0 && r.writeErr == nil {
		_, r.writeErr = r.w.Write(r.out)
	}
	r.out = r.out[:0]
	if cap(r.out) > 4*r.o.MaxBuffer {
		r.out = nil
	}
}

// pass writes on everything that is held back. What follows passes.
func (r *Rewriter) pass(rest []byte) error {
	r.writeRaw(r.b.raw)
	r.writeRaw(rest)
	r.flushOut()
	r.b = batch{space: -1}
	r.passing = true
	return r.writeErr
}
