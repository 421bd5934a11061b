//go:build unix

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// smoke is a scenario in which everything happens that can: an event of each
// kind, a backup, a node that joins.
var smoke = &scenario{
	name:   "smoke",
	about:  "a little of everything",
	nodes:  []nodeSpec{{}, {}, {absent: true}, {backup: true, distance: 10 * time.Millisecond}},
	phases: []openloop.Phase{{For: 4 * second, Rate: 40}},
	events: []event{
		{second / 2, func(t *trial) error { return t.nodes[2].Start(coldFlags...) }},
		{second, func(t *trial) error { return t.nodes[0].Kill() }},
		{2 * second, both(set(1, `{"mode":"fail"}`), func(t *trial) error { return t.gateway.Reload() })},
		{3 * second, func(t *trial) error { return t.nodes[0].Start() }},
	},
	rows: []row{
		{title: "failed", wanted: "0", value: failed},
		{title: "good answers", more: true, value: func(r *openloop.Result) float64 { return float64(len(r.Records) - r.Failed()) }},
	},
}

func TestEveryContenderRuns(t *testing.T) {
	gateways, err := chosen("all")
	if err != nil {
		t.Skip(err)
	}
	binaries, err := gateway.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := &options{seeds: 1, agent: "share", sigma: 0.25}
	trials, err := runTogether(t.Context(), binaries, o, smoke, gateways, 1)
	if err != nil {
		t.Fatal(err)
	}
	report := newReport(gateways, []*scenario{smoke})
	for _, trial := range trials {
		report.add(trial, 0)
		r := trial.result
		if sent := len(r.Records); sent < 100 || r.Failed() > sent/10 {
			t.Errorf("%s lost %d of %d:\n%s", trial.contender.name, r.Failed(), sent, strings.Join(r.Failures(), "\n"))
		}
		if shares := r.Share(); len(shares) < 2 {
			t.Errorf("%s: answers came from %v", trial.contender.name, shares)
		}
	}
	var text strings.Builder
	report.print(&text, o, binaries.Caddy)
	for _, want := range []string{"| failed |", "| good answers |", "caddy-infer", "- nginx least_conn: nginx version", "- HAProxy agent: HAProxy version", "- stock Caddy least_conn: v2."} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestTableCompares(t *testing.T) {
	nginx, plain, own := contenders[0], contenders[3], contenders[4]
	if plain.name != stock || own.name != ours {
		t.Fatal("the contenders stand in another order")
	}
	rows := []row{{title: "p99", unit: "ms", wanted: "≤ 9"}, {title: "good", more: true}, {title: "failed"}}
	measured := map[key]values{
		{"s", "p99"}:    {nginx: {30, 10, 20}, plain: {40, 40, 40}, own: {10, 11, 9.04}},
		{"s", "good"}:   {nginx: {100}, plain: {50}, own: {200}},
		{"s", "failed"}: {nginx: {0}, plain: {2}, own: {0}},
	}
	var text strings.Builder
	printTable(&text, []*contender{nginx, plain, own}, []*scenario{{name: "s", rows: rows}}, measured)
	for _, want := range []string{
		"| | nginx least_conn | stock Caddy least_conn | caddy-infer | to the best peer | to stock Caddy | wanted |",
		"| p99, ms | 20 (10–30) | 40 | 10 (9–11) | 0.50 | 0.25 | ≤ 9 |",
		"| good | 100 | 50 | 200 | 2.00 | 4.00 |  |",
		"| failed | 0 | 2 | 0 |  | 0.00 |  |",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
}

func TestUnknownNamesAreErrors(t *testing.T) {
	if _, err := chosen("caddy,apache"); err == nil || !strings.Contains(err.Error(), "apache") {
		t.Errorf("%v", err)
	}
	err := run(t.Context(), &options{scenario: "kill,earthquake", contenders: ours})
	if err == nil || !strings.Contains(err.Error(), "earthquake") {
		t.Errorf("%v", err)
	}
}

func TestRowsHaveNamesOfTheirOwn(t *testing.T) {
	seen := make(map[key]bool)
	for _, s := range scenarios {
		for _, r := range s.rows {
			k := key{s.name, r.title}
			if seen[k] || r.title == "" {
				t.Errorf("two rows are called %v", k)
			}
			seen[k] = true
		}
	}
}
