package gpuadmin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// nodeTable draws the nodes, one per line. The share of picks is that since
// before, or of all time where before knows nothing of a node. Lines are at
// most width cells wide, if that is not 0.
func nodeTable(nodes, before []gpupolicy.Status, width int) string {
	if len(nodes) == 0 {
		return "no nodes: no reverse_proxy with lb_policy gpu has met one yet"
	}
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Size.WidthMax = width
	telemetry := slices.ContainsFunc(nodes, func(n gpupolicy.Status) bool { return n.Telemetry != nil })
	header := table.Row{"node", "state", "for", "in flight", "latency", "score", "weight", "tier", "share"}
	if telemetry {
		header = append(header, "gpu", "gpu memory")
	}
	t.AppendHeader(append(header, "ejected", "why"))
	var right []table.ColumnConfig
	for _, column := range []string{"for", "in flight", "latency", "score", "weight", "tier", "ejected"} {
		right = append(right, table.ColumnConfig{Name: column, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(right)

	counts, all := picksSince(nodes, before)
	for i, n := range nodes {
		weight := number(n.Weight)
		if n.OrderedWeight != nil {
			weight += " (" + number(n.ConfiguredWeight) + ")"
		}
		latency := "-"
		if n.LatencyMS != nil {
			latency = milliseconds(*n.LatencyMS)
		}
		share := 0.0
		if all > 0 {
			share = counts[i] / all
		}
		why := []string{n.Reason}
		if !n.InUse {
			why = append(why, "no handler uses it")
		}
		why = append(why, n.Warnings...)
		row := table.Row{
			visible(n.Address), n.State, age(time.Since(n.Since)), inFlight(n), latency, fmt.Sprintf("%.4g", n.Score),
			weight, n.Tier, barPercent(share),
		}
		if telemetry {
			use, memory := told(n.Telemetry)
			row = append(row, use, memory)
			if n.Telemetry != nil && len(n.Telemetry.Errors) > 0 {
				why = append(why, "no telemetry: "+n.Telemetry.Errors[0])
			}
		}
		t.AppendRow(append(row, n.Ejections, visible(strings.Join(why, "; "))))
	}
	return t.Render()
}

// inFlight is followed by how many the node takes side by side, once that is
// known.
func inFlight(n gpupolicy.Status) string {
	if n.Knee == nil {
		return strconv.Itoa(n.InFlight)
	}
	return fmt.Sprintf("%d of %s", n.InFlight, number(*n.Knee))
}

// told are a node's GPU use and memory as bars, with their age once they no
// longer count.
func told(t *gpupolicy.TelemetryStatus) (use, memory string) {
	if t == nil || t.AgeSeconds == nil {
		return unknown, unknown
	}
	old := ""
	if t.Stale {
		old = " " + age(time.Duration(*t.AgeSeconds*float64(time.Second))) + " ago"
	}
	bar := func(o gpuprobe.Optional[float64]) string {
		if v, ok := o.Get(); ok {
			return barPercent(v/100) + old
		}
		return unknown
	}
	return bar(t.GPUUtilizationPercent), bar(t.GPUUsagePercent)
}

// picksSince returns how often each node was picked since before, and the sum.
func picksSince(nodes, before []gpupolicy.Status) (counts []float64, all float64) {
	former := make(map[string]uint64)
	for _, n := range before {
		former[n.Address] = total(n)
	}
	counts = make([]float64, len(nodes))
	for i, n := range nodes {
		now, then := total(n), former[n.Address]
		if now < then { // another process
			then = 0
		}
		counts[i] = float64(now - then)
		all += counts[i]
	}
	return counts, all
}

func total(n gpupolicy.Status) (sum uint64) {
	for _, p := range n.Picks {
		sum += p
	}
	return sum
}

// milliseconds keeps three digits.
func milliseconds(ms float64) string {
	if ms >= 10000 {
		return fmt.Sprintf("%.3g s", ms/1000)
	}
	if ms >= 100 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

// age keeps the two largest units: 3m12s, 2h5m, 3d4h.
func age(d time.Duration) string {
	seconds := max(0, int(d.Seconds()))
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 3600:
		return fmt.Sprintf("%dm%ds", seconds/60, seconds%60)
	case seconds < 24*3600:
		return fmt.Sprintf("%dh%dm", seconds/3600, seconds/60%60)
	default:
		return fmt.Sprintf("%dd%dh", seconds/(24*3600), seconds/3600%24)
	}
}
