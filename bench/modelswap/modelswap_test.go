//go:build linux

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/internal/steady"
)

func TestModelsDifferInWhatTheyCallThings(t *testing.T) {
	dir := t.TempDir()
	m, err := writeModels(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPool(t.Context(), m.first, 20, 1)
	if err != nil {
		t.Fatal(err)
	}
	for path, other := range map[string]string{m.first: m.second, m.second: m.first} {
		served, err := inference.Acquire(path, inference.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer served.Release()
		found := 0
		for i, text := range p.texts {
			results, stats, err := served.Predict(t.Context(), []string{text})
			if err != nil {
				t.Fatal(err)
			}
			a := answer{Text: text, Output: results[0].Entities, digest: stats.Digest}
			found += len(a.Output)
			if fault := a.fault(p, i, m); fault != "" {
				t.Error(fault)
			}
			if len(a.Output) == 0 {
				continue
			}
			mixed := a
			if mixed.digest, err = digest(other); err != nil {
				t.Fatal(err)
			}
			if mixed.fault(p, i, m) == "" {
				t.Errorf("nobody notices that %q was answered by the other model", text)
			}
			if a.fault(p, (i+1)%len(p.texts), m) == "" {
				t.Errorf("nobody notices that %q is the answer to another text", text)
			}
			short := a
			short.Output = a.Output[1:]
			if short.fault(p, i, m) == "" {
				t.Errorf("nobody notices that an entity is missing in %q", text)
			}
		}
		if found < 20 {
			t.Errorf("the texts have %d entities: too few to notice anything", found)
		}
	}
	if _, err := inference.Acquire(m.broken, inference.Options{}); err == nil {
		t.Error("the model with half its weights can be loaded")
	}
}

func TestWhatMustNotHappenIsReported(t *testing.T) {
	r := &report{
		options: &options{duration: time.Minute},
		load:    &load{failed: 1, wrong: 2, bad: []string{"EOF"}, by: map[string]int{"a": 3}},
		took:    time.Minute, samples: []steady.Sample{{}},
		orders: orders{counts: map[string]int{"load": 3}, violations: []string{"the wrong one answers"}},
	}
	r.judge()
	text := r.String()
	for _, want := range []string{"1 requests lost, 2 answers wrong", "VIOLATED: EOF", "the wrong one answers", "only one model has answered"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
