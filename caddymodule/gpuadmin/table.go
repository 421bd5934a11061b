package gpuadmin

import (
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
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
	t.AppendHeader(table.Row{"node", "state", "for", "in flight", "latency", "score", "weight", "tier", "share", "ejected", "why"})
	var right []table.ColumnConfig
	for _, column := range []int{3, 4, 5, 6, 7, 8, 10} {
		right = append(right, table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight})
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
		state, why := n.State, n.Reason
		if !n.InUse {
			why += "; no handler uses it"
		}
		t.AppendRow(table.Row{
			visible(n.Address), state, age(time.Since(n.Since)), n.InFlight, latency, fmt.Sprintf("%.4g", n.Score),
			weight, n.Tier, barPercent(share), n.Ejections, visible(why),
		})
	}
	return t.Render()
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
