package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Four lightly loaded workers become seven times as slow while their requests
// pile up: that is no reason to take them for one. Without kneeSurprise they
// pass for it in every second run at once, and in two of five still after
// thirty quick answers.
func TestNodeThatSlowsDownDoesNotPassForASingleWorker(t *testing.T) {
	const runs = 200
	atOnce, later := 0, 0
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var k knee
		learn := func(n int, service float64, since time.Duration) {
			waited := service * math.Exp(0.25*rng.NormFloat64()) * max(1, float64(n)/4)
			k.learn(waited, n, math.Exp(-float64(since)/float64(latencyMemory)), since)
		}
		single := func() bool { c, _ := k.value(); return c < 2 }
		for range 100 {
			// One, two and three in flight, with 70, 25 and 5 %.
			u := rng.Float64()
			n := 1
			if u > 0.7 {
				n++
			}
			if u > 0.95 {
				n++
			}
			learn(n, 0.05, 60*time.Millisecond)
		}
		for _, n := range []int{3, 5, 6, 7, 8, 8} {
			learn(n, 0.35, 100*time.Millisecond)
		}
		if single() {
			atOnce++
		}
		for range 3 {
			learn(1, 0.35, 4*time.Second)
		}
		for range 30 {
			learn(1, 0.05, 140*time.Millisecond)
		}
		if single() {
			later++
		}
	}
	t.Logf("taken for fewer than two workers: %d of %d runs at once, %d after thirty answers", atOnce, runs, later)
	if atOnce > 30 {
		t.Errorf("a slow node passes for a single worker in %d of %d runs", atOnce, runs)
	}
	if later > 24 {
		t.Errorf("a node that was slow passes for a single worker in %d of %d runs", later, runs)
	}
}
