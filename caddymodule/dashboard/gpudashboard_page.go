package dashboard

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

//go:embed gpu_dashboard
var dashboardFiles embed.FS

func dashboardFile(name string) []byte {
	b, err := dashboardFiles.ReadFile("gpu_dashboard/" + name)
	if err != nil {
		panic(err) // an embedded file: can only fail in a build that no test has seen
	}
	return b
}

var dashboardAssets = map[string]document{
	"gpu_dashboard/app.css":  newDocument("text/css; charset=utf-8", dashboardFile("app.css")),
	"gpu_dashboard/app.js":   newDocument("text/javascript; charset=utf-8", dashboardFile("app.js")),
	"gpu_dashboard/icon.svg": newDocument("image/svg+xml", dashboardFile("icon.svg")),
}

var dashboardStrings = func() (t map[string]map[string]string) {
	if err := json.Unmarshal(dashboardFile("strings.json"), &t); err != nil {
		panic(err) // an embedded file, as above
	}
	return t
}()

var dashboardTemplate = template.Must(template.New("").Funcs(template.FuncMap{
	"ms": milliseconds, "percent": percentOf, "share": shareOf, "number": numberOf,
	"ago": ago, "clock": func(t time.Time) string { return t.Format("15:04:05.0") },
	"spark": spark, "shade": shade, "lower": strings.ToLower, "score": func(s float64) string { return milliseconds(1000 * s) },
}).ParseFS(dashboardFiles, "gpu_dashboard/*.html"))

// dashboardView is what the templates see.
type dashboardView struct {
	*dashboardState
	T                              map[string]string
	Lang, OtherLang, OtherLangName string
	Title                          string
	Orders                         bool
	Pools                          []dashboardPool // shadows the state's
	Up                             int
}

// dashboardPool is a pool with its nodes.
type dashboardPool struct {
	gpupolicy.Pool
	Rows []dashboardRow
}

// dashboardRow is a node with what the templates would have to work out.
type dashboardRow struct {
	dashboardNode
	StateName string
	Because   string // the reason, in the reader's language where it is one of ours
	Age       string // of the telemetry
	GPU       string
	GPUValue  float64 // 0 to 100, -1 for unknown
	Mem       string
	MemValue  float64
	Temp      string // of all its GPUs
	Power     string // their sum
	Queue     string // requests that wait at the node, by its own word
	Drained   bool
	For       string
	Errors    []string
}

func (m *GPUDashboard) view(state *dashboardState, lang string, orders bool) dashboardView {
	other := "en"
	if lang == "en" {
		other = "zh"
	}
	v := dashboardView{
		dashboardState: state, T: dashboardStrings[lang], Lang: lang, OtherLang: other,
		OtherLangName: dashboardStrings[other]["name"], Title: m.Title, Orders: orders,
	}
	if v.Title == "" {
		v.Title = v.T["title"]
	}
	place := make(map[int]int)
	for i, p := range state.Pools {
		place[p.Pool] = i
		v.Pools = append(v.Pools, dashboardPool{Pool: p})
	}
	for _, n := range state.Nodes {
		i, ok := place[n.Pool]
		if !ok { // nodes that no handler uses
			i = len(v.Pools)
			place[n.Pool] = i
			v.Pools = append(v.Pools, dashboardPool{})
		}
		row := dashboardRow{
			dashboardNode: n, StateName: v.T["state_"+n.State], GPUValue: -1, MemValue: -1,
			Drained: n.State == "drained" || n.State == "draining", For: ago(state.Time.Sub(n.Since)),
		}
		switch n.State {
		case "up", "slow_start", "avoided":
			v.Up++
		}
		if row.Because = v.T["because "+n.Reason]; row.Because == "" {
			row.Because = n.Reason
		}
		row.telemetry(n.Telemetry)
		v.Pools[i].Rows = append(v.Pools[i].Rows, row)
	}
	return v
}

// States are all there are, for the legend.
func (dashboardView) States() (names []string) {
	for _, s := range balance.States() {
		names = append(names, s.String())
	}
	return names
}

// SharePercent is Share for the bar.
func (r dashboardRow) SharePercent() float64 { return 100 * r.Share }

func (r *dashboardRow) telemetry(t *gpupolicy.TelemetryStatus) {
	if t == nil {
		return
	}
	r.Errors = t.Errors
	if t.AgeSeconds != nil {
		r.Age = ago(time.Duration(*t.AgeSeconds * float64(time.Second)))
	}
	if v, ok := t.GPUUtilizationPercent.Get(); ok {
		r.GPU, r.GPUValue = percentOf(v), v
	}
	if v, ok := t.GPUUsagePercent.Get(); ok {
		r.Mem, r.MemValue = percentOf(v), v
	}
	if v, ok := t.Queue.Get(); ok && v > 0 {
		r.Queue = strconv.FormatFloat(v, 'f', 0, 64)
	}
	var temps []string
	watts := 0.0
	for _, d := range t.Devices {
		watts += d.PowerW.Or(0)
		if c, ok := d.TemperatureC.Get(); ok {
			temps = append(temps, strconv.FormatFloat(c, 'f', 0, 64))
		}
	}
	if len(temps) > 0 {
		r.Temp = strings.Join(temps, ", ") + " °C"
	}
	if watts > 0 {
		r.Power = strconv.FormatFloat(watts, 'f', 0, 64) + " W"
	}
}

func (m *GPUDashboard) renderPage(state *dashboardState, lang string, orders bool) ([]byte, error) {
	return execute("page.html", m.view(state, lang, orders))
}

// renderBody renders what changes.
func (m *GPUDashboard) renderBody(state *dashboardState, lang string, orders bool) ([]byte, error) {
	return execute("body.html", m.view(state, lang, orders))
}

func execute(name string, v dashboardView) ([]byte, error) {
	var b bytes.Buffer
	if err := dashboardTemplate.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("rendering the dashboard: %w", err)
	}
	return b.Bytes(), nil
}

// milliseconds writes a time that may not be known with three digits.
func milliseconds(v any) string {
	var ms float64
	switch v := v.(type) {
	case float64:
		ms = v
	case *float64:
		if v == nil {
			return "–"
		}
		ms = *v
	}
	switch {
	case math.IsInf(ms, 0) || math.IsNaN(ms):
		return "–"
	case ms >= 10_000:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	case ms >= 100:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return strconv.FormatFloat(ms, 'g', 3, 64) + " ms"
	}
}

func percentOf(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) + " %" }
func shareOf(v float64) string   { return percentOf(100 * v) }

func numberOf(v any) string {
	switch v := v.(type) {
	case *float64:
		if v == nil {
			return "–"
		}
		return strconv.FormatFloat(*v, 'g', 3, 64)
	case float64:
		return strconv.FormatFloat(v, 'g', 3, 64)
	default:
		return fmt.Sprint(v)
	}
}

// ago writes a duration as people say it.
func ago(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return strconv.FormatFloat(max(0, d.Seconds()), 'f', 1, 64) + "\u00a0s"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 0, 64) + "\u00a0s"
	case d < time.Hour:
		return fmt.Sprintf("%d\u00a0min\u00a0%02d\u00a0s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%d\u00a0h\u00a0%02d\u00a0min", int(d.Hours()), int(d.Minutes())%60)
	}
}

// spark returns the path of a line through values, in a box of 60 by 16, with
// gaps where they are not known.
func spark(values []*float64) string {
	top := 1e-9
	for _, v := range values {
		if v != nil {
			top = max(top, *v)
		}
	}
	var b strings.Builder
	pen := 'M'
	for i, v := range values {
		if v == nil {
			pen = 'M'
			continue
		}
		x := 60 - float64(len(values)-1-i)*60/(historyLength-1)
		fmt.Fprintf(&b, "%c%.1f,%.1f", pen, x, 15-14**v/top)
		pen = 'L'
	}
	return b.String()
}

// shade is the class of a bar: the levels of which the articles warn.
func shade(percent float64) string {
	switch {
	case percent >= 90:
		return "high"
	case percent >= 75:
		return "raised"
	default:
		return "normal"
	}
}
