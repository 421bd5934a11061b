//go:build linux

package main

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

func TestPlanRepeatsAndLeavesEnoughNodes(t *testing.T) {
	kinds := make(map[kind]bool)
	for seed := range uint64(50) {
		o := &options{duration: 3 * time.Minute, seed: seed, nodes: 5, out: 2}
		events := plan(o)
		if !reflect.DeepEqual(events, plan(o)) {
			t.Fatalf("seed %d: other events", seed)
		}
		trouble := make(map[int]kind)
		for i, e := range events {
			kinds[e.kind] = true
			switch {
			case i > 0 && e.at < events[i-1].at, e.at > o.duration:
				t.Fatalf("seed %d: %+v out of order", seed, e)
			case e.end && trouble[e.node] != e.kind:
				t.Fatalf("seed %d: %+v ends what never began", seed, e)
			case e.end:
				delete(trouble, e.node)
			case e.kind != weight && e.kind != reload && e.kind != change:
				if trouble[e.node] != "" {
					t.Fatalf("seed %d: %+v on top of %s", seed, e, trouble[e.node])
				}
				if trouble[e.node] = e.kind; len(trouble) > o.out {
					t.Fatalf("seed %d: %v at the same time", seed, trouble)
				}
			}
		}
		if len(trouble) > 0 {
			t.Errorf("seed %d: %v in the end", seed, trouble)
		}
	}
	if len(kinds) != 11 {
		t.Errorf("only these happen: %v", kinds)
	}
	if reflect.DeepEqual(plan(&options{duration: time.Minute, seed: 1, nodes: 5, out: 2}), plan(&options{duration: time.Minute, seed: 2, nodes: 5, out: 2})) {
		t.Error("another seed, the same events")
	}
}

// judged is the report of ten minutes in which nothing was lost and memory, in
// MiB, was as given.
func judged(memory func(at time.Duration) float64) *report {
	random := rand.New(rand.NewPCG(1, 1))
	r := &report{
		options: &options{duration: 10 * time.Minute, nodes: 5},
		result:  &openloop.Result{Records: []openloop.Record{{Outcome: openloop.OK}}},
	}
	for at := time.Duration(0); at < r.options.duration; at += every {
		peak := 0.0
		if random.IntN(20) == 0 {
			peak = 15
		}
		r.samples = append(r.samples, sample{at: at, anonymous: memory(at) + random.NormFloat64() + peak, heap: 5, goroutines: 60, files: 30})
	}
	r.judge()
	return r
}

func TestGrowthIsToldFromNoiseAndWarmUp(t *testing.T) {
	for name, memory := range map[string]func(time.Duration) float64{
		"flat":           func(time.Duration) float64 { return 30 },
		"warming up":     func(at time.Duration) float64 { return 30 - 20*max(0, 1-at.Seconds()/90) },
		"falling":        func(at time.Duration) float64 { return 60 - 30*at.Minutes()/10 },
		"a step in time": func(at time.Duration) float64 { return 30 + 4*float64(at/(5*time.Minute)) },
	} {
		if r := judged(memory); len(r.violations) > 0 {
			t.Errorf("%s: %v", name, r.violations)
		}
	}
	leak := judged(func(at time.Duration) float64 { return 30 + at.Minutes() })
	if len(leak.violations) != 1 || !strings.Contains(leak.violations[0], "anonymous memory grew by ") || !strings.Contains(leak.String(), "VIOLATED") {
		t.Errorf("1 MiB a minute: %v", leak.violations)
	}
}

func TestEachLostRequestIsReported(t *testing.T) {
	r := judged(func(time.Duration) float64 { return 30 })
	if text := r.String(); !strings.Contains(text, "Nothing lost") {
		t.Error(text)
	}
	r.result.Records = append(r.result.Records,
		openloop.Record{Intended: time.Second, Outcome: openloop.Dropped, Error: "EOF"},
		openloop.Record{Intended: 3 * time.Second, Outcome: openloop.WrongAnswer, Error: "answer to 7"})
	r.judge()
	text := r.String()
	for _, want := range []string{"| 3 | 1 | 1 |", "2 of 3 requests lost", "EOF", "answer to 7", "in second 1: 1 of 1", "in second 3: 1 of 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestFieldsOfProcAndPprof(t *testing.T) {
	if v, err := field("Name:\tcaddy\nRssAnon:\t   12345 kB\n", "RssAnon:"); v != 12345 || err != nil {
		t.Error(v, err)
	}
	if v, err := field("heap profile: 1: 2\n# HeapAlloc = 4711\n", "# HeapAlloc ="); v != 4711 || err != nil {
		t.Error(v, err)
	}
	for _, text := range []string{"", "RssAnon:", "RssAnon: x"} {
		if _, err := field(text, "RssAnon:"); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}
