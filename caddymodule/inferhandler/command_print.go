package inferhandler

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// printer shows results one after the other.
type printer interface {
	print(r *inference.Result) error
	end() error
}

func newPrinter(out io.Writer, task modeldir.Task, asJSON bool) printer {
	switch {
	case asJSON:
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return &jsonPrinter{task, e}
	case task == modeldir.TokenClassification:
		return &entityPrinter{out: out, colours: wantsColours(out)}
	default:
		return &labelPrinter{out: out, table: newTable("text", "label", "score")}
	}
}

// wantsColours follows https://no-color.org.
func wantsColours(out io.Writer) bool { return isTerminal(out) && os.Getenv("NO_COLOR") == "" }

// jsonPrinter prints the handler's answers, one per line.
type jsonPrinter struct {
	task modeldir.Task
	out  *json.Encoder
}

func (p *jsonPrinter) print(r *inference.Result) error {
	return p.out.Encode(plainAnswer(p.task, r))
}

func (p *jsonPrinter) end() error { return nil }

// entityPrinter prints each text with a table of its entities.
type entityPrinter struct {
	out     io.Writer
	colours bool
	started bool
}

func (p *entityPrinter) print(r *inference.Result) error {
	var b strings.Builder
	if p.started {
		b.WriteByte('\n')
	}
	p.started = true
	if p.colours {
		b.WriteString(highlight(r))
	} else {
		b.WriteString(visible(r.Text))
	}
	b.WriteByte('\n')
	if len(r.Entities) == 0 {
		b.WriteString("no entities found\n")
	} else {
		t := newTable("type", "text", "start", "end", "prob")
		for _, e := range r.Entities {
			t.AppendRow(table.Row{visible(e.Type), visible(e.Span), e.Start, e.End, fmt.Sprintf("%.3f", e.Prob)})
		}
		b.WriteString(t.Render())
		b.WriteByte('\n')
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}

func (p *entityPrinter) end() error { return nil }

// highlight underlines entities in the colours of the web pages: PER red, LOC
// cyan, ORG yellow. The table below names them, so colour is never alone.
func highlight(r *inference.Result) string {
	runes := []rune(r.Text)
	var b strings.Builder
	at := 0
	for _, e := range r.Entities {
		if e.Start < at || e.End < e.Start || e.End > len(runes) {
			continue
		}
		b.WriteString(visible(string(runes[at:e.Start])))
		code := "95" // magenta
		switch e.Type {
		case "PER":
			code = "91"
		case "LOC":
			code = "96"
		case "ORG":
			code = "93"
		}
		fmt.Fprintf(&b, "\x1b[4;%sm%s\x1b[0m", code, visible(string(runes[e.Start:e.End])))
		at = e.End
	}
	b.WriteString(visible(string(runes[at:])))
	return b.String()
}

// labelPrinter collects one table for all texts.
type labelPrinter struct {
	out   io.Writer
	table table.Writer
}

// labelTextWidth is how much of a text its row shows, in terminal cells.
const labelTextWidth = 60

func (p *labelPrinter) print(r *inference.Result) error {
	best := decode.Best(r.Scores)
	p.table.AppendRow(table.Row{
		text.Snip(visible(r.Text), labelTextWidth, "…"), visible(best.Label), fmt.Sprintf("%.3f", best.Score),
	})
	return nil
}

func (p *labelPrinter) end() error {
	if p.table.Length() == 0 {
		return nil
	}
	_, err := fmt.Fprintln(p.out, p.table.Render())
	return err
}

func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.AppendHeader(header)
	return t
}

// rightAligned is for numbers that are printed as text; column counts from 1.
func rightAligned(column int) table.ColumnConfig {
	return table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight}
}

// visible replaces control and direction characters, with which a text could
// drive the terminal or break a table's lines.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return '·'
		}
		return r
	}, s)
}
