package balance

import (
	"testing"
	"time"
)

func TestPicksAreRecordedWithWhatTheyWeighed(t *testing.T) {
	b := New(Options{})
	nodes := []*Node{NewNode("a"), NewNode("b"), NewNode("c")}
	candidates := make([]Candidate, len(nodes))
	for i, n := range nodes {
		candidates[i] = Candidate{Node: n, Weight: 1, Tier: 1}
	}
	candidates[2].Down = true
	now := time.Second
	var a Attempt
	for range 3 { // within a tenth of a second: one record
		i, _ := b.Pick(now, candidates, &a)
		a.Answer(now+time.Millisecond, Served, 0)
		a.End(now + time.Millisecond)
		if i < 0 {
			t.Fatal("no node")
		}
		now += 10 * time.Millisecond
	}
	all := b.LastPicks()
	if len(all) != 1 {
		t.Fatalf("%d records of picks of the same reason within 30 ms", len(all))
	}
	p := all[0]
	if p.Number != 1 || p.At != time.Second || p.Chosen < 0 || p.Chosen > 1 || len(p.Candidates) != 3 || p.Omitted != 0 {
		t.Errorf("%+v", p)
	}
	if s := p.Candidates[2].Standing; s != StandsDown {
		t.Errorf("the node that is down stands as %v", s)
	}
	if f := p.Candidates[0].Factors; f.Load != 1 || f.Weight != 1 {
		t.Errorf("factors %+v", f)
	}

	// Picks that find no node are recorded among many that do.
	for i := range candidates {
		candidates[i].Down = true
		candidates[i].Tries = 1
		nodes[i].Drain(now, nil)
	}
	now += time.Second
	if i, _ := b.Pick(now, candidates, &a); i >= 0 {
		t.Fatalf("picked %d of drained nodes", i)
	}
	if p := b.LastPicks()[0]; p.Chosen != -1 || p.Candidates[0].Standing != StandsDrained {
		t.Errorf("%+v", p)
	}
	for range 100 {
		now += time.Second
		b.Pick(now, candidates, &a)
	}
	if n := len(b.LastPicks()); n != recordedPicks {
		t.Errorf("%d records are kept", n)
	}
}

func TestQuantilesAreOfTheLastAnswers(t *testing.T) {
	n := NewNode("a")
	if _, ok := n.Quantiles(time.Second, time.Minute, 0.5); ok {
		t.Error("quantiles of no answers")
	}
	for i := range 300 {
		n.recent.add(time.Duration(i+1)*time.Second, float64(i))
	}
	q, ok := n.Quantiles(300*time.Second, time.Hour, 0, 0.5, 1)
	if !ok || q[0] != 172*time.Second || q[1] != 236*time.Second || q[2] != 299*time.Second {
		t.Errorf("of the last 128 of 300: %v", q)
	}
	q, _ = n.Quantiles(300*time.Second, 10*time.Second, 0, 1)
	if q[0] != 289*time.Second {
		t.Errorf("of the last 10 s: %v", q)
	}
}
