package gpuadmin

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpuadmin/drill"
)

func printDrill(out io.Writer, asJSON bool, r *drill.Report, ended error) error {
	if asJSON {
		return encodeDrill(out, r, ended)
	}
	verdict := r.Verdict()
	if ended != nil {
		verdict += "; ended early"
	}
	_, err := fmt.Fprintf(out, "%s\n%s\n", drillTable(r), visible(verdict))
	return err
}

// drillTable has the baseline in its first line, and a line for each node.
func drillTable(r *drill.Report) string {
	t := newTable()
	header := table.Row{"node out", "share", "sent", "lost", "p50", "p99", "slowest", "switch", "idle", "back", "share then", "remarks"}
	t.AppendHeader(header)
	right := make([]table.ColumnConfig, len(header)-2)
	for i, column := range header[1 : len(header)-1] {
		right[i] = table.ColumnConfig{Name: fmt.Sprint(column), Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs(right)
	b := &r.Baseline
	t.AppendRow(table.Row{"none (baseline)", "", b.Sent(), b.Lost, latency(b, 0.5), latency(b, 0.99), latency(b, 1), "", "", "", "", ""})
	for _, n := range r.Nodes {
		slowest, _ := n.Out.Quantile(1)
		if back, ok := n.Back.Quantile(1); ok {
			slowest = max(slowest, back)
		}
		notes := ""
		for i, note := range n.Notes {
			if i > 0 {
				notes += "; "
			}
			notes += note
		}
		if n.StillDrained {
			notes = "STILL DRAINED " + notes
		}
		t.AppendRow(table.Row{
			visible(n.Address), fmt.Sprintf("%.0f %%", 100*n.Share), n.Sent(), n.Lost(),
			latency(&n.Out, 0.5), latency(&n.Out, 0.99), shown(&slowest), shown(n.Switch), shown(n.Idle), shown(n.Return), fmt.Sprintf("%.0f %%", 100*n.ShareBack), visible(notes),
		})
	}
	return t.Render()
}

func latency(t *drill.Tally, q float64) string {
	if d, ok := t.Quantile(q); ok {
		return shown(&d)
	}
	return unknown
}

func shown(d *time.Duration) string {
	if d == nil || *d == 0 {
		return unknown
	}
	return milliseconds(inMilliseconds(*d))
}

func inMilliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// drillPart is a Tally in JSON; latencies are null without an answer.
type drillPart struct {
	Sent      int        `json:"sent"`
	Lost      int        `json:"lost"`
	LostBy    drill.Lost `json:"lost_by"`
	P50MS     *float64   `json:"p50_ms"`
	P99MS     *float64   `json:"p99_ms"`
	SlowestMS *float64   `json:"slowest_ms"`
}

func newDrillPart(t *drill.Tally) drillPart {
	quantile := func(q float64) *float64 {
		if d, ok := t.Quantile(q); ok {
			return msOf(&d)
		}
		return nil
	}
	return drillPart{t.Sent(), t.Lost.Sum(), t.Lost, quantile(0.5), quantile(0.99), quantile(1)}
}

func msOf(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	ms := inMilliseconds(*d)
	return &ms
}

type drillNodeLine struct {
	Node         string     `json:"node"`
	Share        float64    `json:"baseline_share"`
	ShareBack    float64    `json:"share_back"`
	Sent         int        `json:"sent"`
	Lost         int        `json:"lost"`
	LostBy       drill.Lost `json:"lost_by"`
	SwitchMS     *float64   `json:"switch_ms"`
	IdleMS       *float64   `json:"idle_ms"`
	ReturnMS     *float64   `json:"return_ms"`
	Out          drillPart  `json:"out"`
	Back         drillPart  `json:"back"`
	Notes        []string   `json:"notes,omitempty"`
	StillDrained bool       `json:"still_drained"`
}

type drillSummary struct {
	Passed   bool       `json:"passed"`
	Verdict  string     `json:"verdict"`
	Error    string     `json:"error,omitempty"` // why it ended early
	Sent     int        `json:"sent"`
	Lost     int        `json:"lost"`
	LostBy   drill.Lost `json:"lost_by"`
	Baseline drillPart  `json:"baseline"`
	Skipped  []string   `json:"skipped,omitempty"`
}

// encodeDrill prints a line per node, and {"summary": …}.
func encodeDrill(out io.Writer, r *drill.Report, ended error) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for _, n := range r.Nodes {
		if err := e.Encode(drillNodeLine{
			n.Address, n.Share, n.ShareBack, n.Sent(), n.Lost().Sum(), n.Lost(), msOf(n.Switch), msOf(n.Idle), msOf(n.Return),
			newDrillPart(&n.Out), newDrillPart(&n.Back), n.Notes, n.StillDrained,
		}); err != nil {
			return err
		}
	}
	s := drillSummary{
		Passed: ended == nil && r.Lost().Sum() == 0, Verdict: r.Verdict(), Sent: r.Sent(), Lost: r.Lost().Sum(), LostBy: r.Lost(),
		Baseline: newDrillPart(&r.Baseline), Skipped: r.Skipped,
	}
	if ended != nil {
		s.Error = ended.Error()
	}
	return e.Encode(map[string]drillSummary{"summary": s})
}
