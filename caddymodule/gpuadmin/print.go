package gpuadmin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// printer shows readings one after the other.
type printer interface {
	print(s *gpuprobe.Sample) error
	failed(err error) error
}

func newPrinter(out io.Writer, asJSON, watch bool) printer {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		if !watch { // watched samples are lines, for programs
			e.SetIndent("", "  ")
		}
		return &jsonPrinter{e}
	}
	f, ok := out.(*os.File)
	return &tablePrinter{out: out, clear: watch && ok && term.IsTerminal(int(f.Fd()))}
}

// jsonPrinter prints gpuprobe.Report, the JSON that nodes speak.
type jsonPrinter struct{ out *json.Encoder }

func (p *jsonPrinter) print(s *gpuprobe.Sample) error { return p.out.Encode(gpuprobe.NewReport(s)) }

func (p *jsonPrinter) failed(err error) error {
	return p.out.Encode(map[string]string{"error": err.Error()})
}

// tablePrinter prints tables for people. What is not known is a dash.
type tablePrinter struct {
	out   io.Writer
	clear bool // the screen, before each
}

const unknown = "-"

func (p *tablePrinter) print(s *gpuprobe.Sample) error {
	var b strings.Builder
	if len(s.Devices) > 0 {
		b.WriteString(deviceTable(s.Devices))
		b.WriteByte('\n')
	}
	if rows := nodeRows(s); len(rows) > 0 {
		t := newTable()
		t.AppendRows(rows)
		b.WriteString(t.Render())
		b.WriteByte('\n')
	}
	// A fresh sample needs no remark; an old one explains odd decisions.
	if age := time.Since(s.MeasuredAt); age > 2*time.Second {
		fmt.Fprintf(&b, "measured %s ago\n", age.Round(time.Second))
	}
	return p.write(b.String())
}

func (p *tablePrinter) failed(err error) error { return p.write(visible(err.Error()) + "\n") }

func (p *tablePrinter) write(s string) error {
	if p.clear {
		s = "\x1b[H\x1b[2J" + s
	}
	_, err := io.WriteString(p.out, s)
	return err
}

func deviceTable(devices []gpuprobe.Device) string {
	t := newTable()
	t.AppendHeader(table.Row{"gpu", "name", "use", "memory", "temp", "power", "slowed by", "last xid", "ecc"})
	for i := range devices {
		d := &devices[i]
		number := show(d.Index, strconv.Itoa)
		if d.Instance != "" {
			number += " mig " + d.Instance
		}
		t.AppendRow(table.Row{
			visible(number), visible(cmp.Or(d.Name, d.UUID, unknown)), show(d.Utilization, barPercent), memory(d),
			show(d.TemperatureC, func(v float64) string { return fmt.Sprintf("%.0f °C", v) }),
			show(d.PowerW, func(v float64) string { return fmt.Sprintf("%.0f W", v) }),
			show(d.Throttle, reasons), show(d.XID, whole), show(d.ECCUncorrected, whole),
		})
	}
	return t.Render()
}

func nodeRows(s *gpuprobe.Sample) []table.Row {
	var rows []table.Row
	row := func(name, value string) {
		if value != unknown && value != "" {
			rows = append(rows, table.Row{name, visible(value)})
		}
	}
	row("model", s.Model)
	row("digest", s.ModelDigest)
	row("healthy", show(s.Healthy, strconv.FormatBool))
	row("api healthy", show(s.APIHealthy, strconv.FormatBool))
	row("webui healthy", show(s.WebUIHealthy, strconv.FormatBool))
	if len(s.Devices) == 0 { // else the table above says it
		row("gpu use", show(s.Utilization, barPercent))
		row("gpu memory", show(s.MemoryUtilization, barPercent))
	}
	row("cpu", show(s.CPUUtilization, barPercent))
	row("host memory", show(s.HostMemoryUtilization, barPercent))
	row("kv cache", show(s.KVCache, barPercent))
	row("queue", show(s.Queue, number))
	row("running", show(s.Running, number))
	row("in flight", show(s.InFlight, number))
	row("agent state", s.Agent.State)
	row("agent order", s.Agent.Admin)
	row("agent weight", show(s.Agent.WeightShare, barPercent))
	row("agent weight", show(s.Agent.Weight, strconv.Itoa))
	row("agent maxconn", show(s.Agent.MaxConn, strconv.Itoa))
	row("agent says", s.Agent.Text)
	return rows
}

func show[T any](o gpuprobe.Optional[T], text func(T) string) string {
	if v, ok := o.Get(); ok {
		return text(v)
	}
	return unknown
}

func memory(d *gpuprobe.Device) string {
	used, total := show(d.MemoryUsedBytes, humanize.IBytes), show(d.MemoryTotalBytes, humanize.IBytes)
	if used == unknown && total == unknown {
		return unknown
	}
	return used + " of " + total
}

func reasons(r gpuprobe.ThrottleReasons) string {
	// Idling is no slowness; each idle GPU would show it.
	names := (r &^ gpuprobe.ThrottleIdle).Names()
	return cmp.Or(strings.Join(names, "\n"), "nothing")
}

func whole(v uint64) string { return strconv.FormatUint(v, 10) }

func newTable() table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	return t
}
