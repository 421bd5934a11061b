//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// load is what clients saw.
type load struct {
	latencies []time.Duration
	bad       []string       // the first of them
	failed    int            // requests without an answer, or with another status than 200
	wrong     int            // answers that are not of their text, or not of their model
	by        map[string]int // answers by model digest
}

// keptExamples bounds what a report quotes.
const keptExamples = 10

// ask keeps that many requests under way until ctx ends, and checks each answer.
func ask(ctx context.Context, url string, clients int, p *pool, m models, seed uint64) *load {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	l := &load{by: make(map[string]int)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)+2)) //nolint:gosec // a repeatable choice
			for ctx.Err() == nil {
				i := random.IntN(len(p.texts))
				begin := time.Now()
				a, err := post(client, url, p.texts[i])
				took := time.Since(begin)
				fault := ""
				if err == nil {
					fault = a.fault(p, i, m)
				}
				mu.Lock()
				switch {
				case err != nil:
					l.failed++
					l.example(err.Error())
				case fault != "":
					l.wrong++
					l.example(fault)
				default:
					l.latencies = append(l.latencies, took)
					l.by[a.digest]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return l
}

func (l *load) example(text string) {
	if len(l.bad) < keptExamples {
		l.bad = append(l.bad, text)
	}
}

// answer to one text.
type answer struct {
	Text   string             `json:"text"`
	Output []inference.Entity `json:"output"`
	digest string
}

func post(client *http.Client, url, text string) (a answer, err error) {
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		return a, err
	}
	resp, err := client.Post(url, "application/json", strings.NewReader(string(body)))
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return a, err
	}
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("%s: %s", resp.Status, data)
	}
	a.digest = resp.Header.Get("X-Inference-Model-Digest")
	return a, json.Unmarshal(data, &a)
}

// fault says what is wrong with the answer to text i; empty means nothing.
func (a *answer) fault(p *pool, i int, m models) string {
	prefix, known := m.prefix[a.digest]
	switch {
	case !known:
		return fmt.Sprintf("an answer of the model %q", a.digest)
	case a.Text != p.texts[i]:
		return fmt.Sprintf("an answer to %q instead of %q", a.Text, p.texts[i])
	case len(a.Output) != len(p.entities[i]):
		return fmt.Sprintf("%d entities in %q instead of %d", len(a.Output), a.Text, len(p.entities[i]))
	}
	for j, got := range a.Output {
		want := p.entities[i][j]
		want.Type = prefix + want.Type
		// Texts that share a forward pass may differ in the last bits.
		if math.Abs(got.Prob-want.Prob) > 1e-4 {
			return fmt.Sprintf("%+v in %q instead of %+v", got, a.Text, want)
		}
		want.Prob = got.Prob
		if got != want {
			return fmt.Sprintf("%+v in %q instead of %+v", got, a.Text, want)
		}
	}
	return ""
}

// orders are what the server was told, and what it did not do.
type orders struct {
	counts     map[string]int
	violations []string
	slowest    time.Duration // change of the model
}

// give gives one order after the other until ctx ends.
func give(ctx context.Context, o *options, g *gateway.Gateway, m models) orders {
	random := rand.New(rand.NewPCG(o.seed, 0)) //nolint:gosec // a repeatable choice
	done := orders{counts: make(map[string]int)}
	complain := func(format string, args ...any) {
		done.violations = append(done.violations, fmt.Sprintf(format, args...))
	}
	load := func(dir string) (status, error) { return change(g, "load", fmt.Sprintf(`{"ref":%q}`, dir)) }
	now := m.first
	before := ""
	for {
		select {
		case <-time.After(o.pause):
		case <-ctx.Done():
			return done
		}
		kind := [...]string{"load", "load", "load", "rollback", "rollback", "broken", "reload"}[random.IntN(7)]
		begin := time.Now()
		var err error
		var s status
		switch kind {
		case "load":
			next := m.first
			if now == m.first {
				next = m.second
			}
			if s, err = load(next); err == nil {
				before, now = now, next
			}
		case "rollback":
			if before == "" {
				continue
			}
			if s, err = change(g, "rollback", ""); err == nil {
				before, now = now, before
			}
		case "broken":
			if _, bad := load(m.broken); bad == nil || !strings.Contains(bad.Error(), "422") {
				complain("the cut-off model: %v, want 422", bad)
			}
			s, err = change(g, "", "")
		case "reload":
			if err = g.Reload(); err == nil {
				s, err = change(g, "", "")
			}
		}
		if err != nil {
			complain("%s: %v", kind, err)
			continue
		}
		done.counts[kind]++
		if kind == "load" || kind == "rollback" {
			done.slowest = max(done.slowest, time.Since(begin))
		}
		if s.Ref != now {
			complain("after %s %s answers, want %s", kind, s.Ref, now)
		}
	}
}

// status is the part of the admin API's answer that matters here.
type status struct{ Ref, Digest string }

func change(g *gateway.Gateway, verb, body string) (s status, err error) {
	method, path := http.MethodPost, "/inference/models/ner/"+verb
	if verb == "" {
		method = http.MethodGet
	}
	text, err := g.Call(method, path, body)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(text, &s)
}
