//go:build unix

package main

import (
	"fmt"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

const (
	service = 20 * time.Millisecond
	slots   = 2
	slo     = 500 * time.Millisecond
	second  = time.Second
)

// scenario is what happens to the nodes, and what is measured. Every gateway
// has nodes of its own that behave alike, and gets the same arrivals.
type scenario struct {
	name   string
	about  string
	nodes  []nodeSpec
	phases []openloop.Phase
	events []event
	rows   []row
	// alone means that the gateways are measured one after the other, since
	// together they would fill the machine.
	alone bool
}

// nodeSpec is a node's flags beyond the common ones.
type nodeSpec struct {
	flags    []string
	distance time.Duration // round trip
	backup   bool
	absent   bool // until an event starts it
}

// event happens at a time since the first request.
type event struct {
	at time.Duration
	do func(*trial) error
}

// row is a line of the table.
type row struct {
	title  string
	unit   string
	wanted string // what the project aims at
	value  func(*openloop.Result) float64
	more   bool // more is better
}

func three() []nodeSpec { return make([]nodeSpec, 3) }

// cold is how a process is that was just started.
const coldFor, coldFactor = 3 * time.Second, 5

var coldFlags = []string{fmt.Sprintf("-cold=%v", coldFor), fmt.Sprintf("-cold-factor=%d", coldFactor)}

var scenarios = []*scenario{
	{
		name:   "kill",
		about:  "one of three nodes is killed at 3 s and started again, cold, at 8 s; 50 % load",
		nodes:  three(),
		phases: []openloop.Phase{{For: 16 * second, Rate: 150}},
		events: []event{
			{3 * second, func(t *trial) error { return t.nodes[0].Kill() }},
			{8 * second, func(t *trial) error { return t.nodes[0].Start(coldFlags...) }},
		},
		rows: []row{
			{title: "node killed: SLO misses", wanted: "0", value: misses(2*second, 8*second)},
			{title: "p99 after the killed node is back", unit: "ms", wanted: "≤ 90", value: p99(8*second, 16*second)},
			{title: "same: its share of the last 3 s", unit: "%", value: share("n0", 13*second, 16*second), more: true},
		},
	},
	{
		name:   "hang",
		about:  "one of three nodes accepts and never answers, its health check included, from 3 s to 11 s; 50 % load",
		nodes:  three(),
		phases: []openloop.Phase{{For: 22 * second, Rate: 150}},
		events: []event{{3 * second, set(0, `{"mode":"hang"}`)}, {11 * second, set(0, `{"mode":"ok"}`)}},
		rows: []row{
			{title: "node accepts and never answers: requests that waited 2 s", wanted: "0", value: func(r *openloop.Result) float64 {
				return float64(r.Waited(1900 * time.Millisecond))
			}},
			{title: "same: failed", wanted: "0", value: failed},
			{title: "same: used again after", unit: "s", value: usedAgain("n0", 11*second, 22*second)},
		},
	},
	{
		name:   "503",
		about:  "one of three nodes answers 503 at once, its health check included, from 3 s to 8 s; 50 % load",
		nodes:  three(),
		phases: []openloop.Phase{{For: 20 * second, Rate: 150}},
		events: []event{{3 * second, set(0, `{"mode":"fail"}`)}, {8 * second, set(0, `{"mode":"ok"}`)}},
		rows: []row{
			{title: "node answers 503 at once: failed", wanted: "0", value: failed},
			{title: "same: used again after", unit: "s", value: usedAgain("n0", 8*second, 20*second)},
		},
	},
	{
		name:  "region",
		about: "both primaries are unreachable from 4 s to 9 s; two backups are 30 ms away; 50 % load of one pair",
		nodes: []nodeSpec{
			{},
			{},
			{backup: true, distance: 30 * time.Millisecond},
			{backup: true, distance: 30 * time.Millisecond},
		},
		phases: []openloop.Phase{{For: 18 * second, Rate: 100}},
		events: []event{
			{4 * second, both(set(0, `{"mode":"refuse"}`), set(1, `{"mode":"refuse"}`))},
			{9 * second, both(set(0, `{"mode":"ok"}`), set(1, `{"mode":"ok"}`))},
		},
		rows: []row{
			{title: "both primaries lost, back later: failed", wanted: "0", value: failed},
			{title: "same: p50 over the run", unit: "ms", wanted: "≤ 26", value: func(r *openloop.Result) float64 { return ms(r.Percentile(50)) }},
			{title: "same: p50 after they are back", unit: "ms", wanted: "", value: func(r *openloop.Result) float64 {
				return ms(r.Between(9*second, 18*second).Percentile(50))
			}},
		},
	},
	{
		name:   "reload",
		about:  "20 reloads, two a second; 50 % load",
		nodes:  three(),
		phases: []openloop.Phase{{For: 13 * second, Rate: 150}},
		events: reloads(20, 2*second, second/2),
		rows:   []row{{title: "20 reloads under load: failed", wanted: "0", value: failed}},
	},
	{
		name:   "overload",
		about:  "twice the capacity from 3 s to 13 s, 50 % load before and after",
		nodes:  three(),
		phases: []openloop.Phase{{For: 3 * second, Rate: 150}, {For: 10 * second, Rate: 600}, {For: 10 * second, Rate: 150}},
		alone:  true,
		rows: []row{
			{title: "load at 2 × capacity for 10 s: good answers/s of 300 possible", wanted: "≥ 294, nothing set by hand", more: true, value: func(r *openloop.Result) float64 {
				part := r.Between(3*second, 13*second)
				return float64(len(part.Records)-part.Misses(slo)) / 10
			}},
			{title: "same: bad seconds after the load is normal", wanted: "0", value: func(r *openloop.Result) float64 {
				bad := 0
				for i, s := range r.Seconds(slo) {
					if i >= 13 && s.Good < s.Sent*95/100 {
						bad++
					}
				}
				return float64(bad)
			}},
		},
	},
	{
		name:   "cold",
		about:  "a third node joins two at 4 s, five times slower for the first 3 s of its work; 65 % load of two",
		nodes:  []nodeSpec{{}, {}, {absent: true}},
		phases: []openloop.Phase{{For: 14 * second, Rate: 130}},
		events: []event{{4 * second, func(t *trial) error { return t.nodes[2].Start(coldFlags...) }}},
		rows: []row{
			{title: "cold node joins (3 s at 5 × service time): p99", unit: "ms", wanted: "≤ 80", value: p99(4*second, 14*second)},
			{title: "same: its share of the last 3 s", unit: "%", value: share("n2", 11*second, 14*second), more: true},
		},
	},
	{
		name:   "tenant",
		about:  "an 85 % co-tenant on one of three GPUs from 4 s to 14 s; 50 % load",
		nodes:  three(),
		phases: []openloop.Phase{{For: 22 * second, Rate: 150}},
		events: []event{
			{4 * second, set(0, `{"co_tenant":0.85}`)},
			{14 * second, set(0, `{"co_tenant":0}`)},
		},
		rows: []row{
			{title: "one of three nodes gets an 85 % co-tenant: p99 during", unit: "ms", wanted: "≤ 75", value: p99(4*second, 14*second)},
			{title: "same: p99 after it left", unit: "ms", wanted: "", value: p99(14*second, 22*second)},
		},
	},
	{
		name:   "unequal",
		about:  "nodes 1, 2 and 4 times slow, no weights given; 57 % load",
		nodes:  []nodeSpec{{}, {flags: []string{"-slowdown=2"}}, {flags: []string{"-slowdown=4"}}},
		phases: []openloop.Phase{{For: 20 * second, Rate: 100}},
		rows:   []row{{title: "nodes 1×/2×/4× slow: p99", unit: "ms", wanted: "≤ 88", value: p99(2*second, 20*second)}},
	},
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func p99(from, to time.Duration) func(*openloop.Result) float64 {
	return func(r *openloop.Result) float64 { return ms(r.Between(from, to).Percentile(99)) }
}

func misses(from, to time.Duration) func(*openloop.Result) float64 {
	return func(r *openloop.Result) float64 { return float64(r.Between(from, to).Misses(slo)) }
}

// usedAgain is how long after a node can answer again it does, the time until
// end if it never does.
func usedAgain(name string, from, end time.Duration) func(*openloop.Result) float64 {
	return func(r *openloop.Result) float64 {
		for _, rec := range r.Between(from, end).Records {
			if rec.Node == name && rec.Outcome == openloop.OK {
				return (rec.Intended - from).Seconds()
			}
		}
		return (end - from).Seconds()
	}
}

// share is a node's part of the answers, in percent. A gateway that never uses a
// node again has the best p99 and has lost its capacity.
func share(name string, from, to time.Duration) func(*openloop.Result) float64 {
	return func(r *openloop.Result) float64 { return 100 * r.Between(from, to).Share()[name] }
}

func failed(r *openloop.Result) float64 { return float64(r.Failed()) }

func set(i int, settings string) func(*trial) error {
	return func(t *trial) error {
		_, err := t.nodes[i].Set(settings)
		return err
	}
}

func both(a, b func(*trial) error) func(*trial) error {
	return func(t *trial) error {
		if err := a(t); err != nil {
			return err
		}
		return b(t)
	}
}

func reloads(n int, from, every time.Duration) []event {
	events := make([]event, n)
	for i := range events {
		events[i] = event{from + time.Duration(i)*every, func(t *trial) error { return t.gateway.Reload() }}
	}
	return events
}
