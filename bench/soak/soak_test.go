//go:build linux

package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/steady"
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

// judged is the report of a run in which nothing was lost, and memory, in MiB,
// grew by so much a minute.
func judged(growth float64) *report {
	r := &report{
		options: &options{duration: 10 * time.Minute, nodes: 5},
		result:  &openloop.Result{Records: []openloop.Record{{Outcome: openloop.OK}}},
	}
	for at := time.Duration(0); at < r.options.duration; at += steady.Every {
		r.samples = append(r.samples, steady.Sample{At: at, Anonymous: 30 + growth*at.Minutes(), Heap: 5, Goroutines: 60, Files: 30})
	}
	r.judge()
	return r
}

func TestALeakIsReported(t *testing.T) {
	if r := judged(1); len(r.violations) != 1 || !strings.Contains(r.String(), "VIOLATED: anonymous memory grew by ") {
		t.Errorf("1 MiB a minute: %v", r.violations)
	}
}

func TestEachLostRequestIsReported(t *testing.T) {
	r := judged(0)
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
