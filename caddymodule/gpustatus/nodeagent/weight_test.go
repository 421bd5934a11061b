package nodeagent

import (
	"math"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func TestTheWeightByUtilisation(t *testing.T) {
	for u, want := range map[float64]float64{0: 1, 0.75: 1, 0.875: 0.625, 1: 0.25, 1.5: 0.25} {
		if got := weightAt(u, 0.75); got != want {
			t.Errorf("at %g: %g, want %g", u, got, want)
		}
	}
	if got := weightAt(1, 1); got != 1 {
		t.Errorf("with shed_at 100 %%: %g", got)
	}
}

func TestBlindnessIsNotLoad(t *testing.T) {
	w := weight{shedAt: 0.75}
	now := time.Unix(0, 0)
	if got := w.observe(now, gpuprobe.Optional[float64]{}); got != 1 {
		t.Errorf("before the first reading %g", got)
	}
	if got := w.observe(now, some(1.)); got != 0.25 {
		t.Errorf("a first reading of 100 %% gives %g", got)
	}
	if got := w.observe(now.Add(10*time.Second), gpuprobe.Optional[float64]{}); got != 0.25 {
		t.Errorf("10 s later %g", got)
	}
	if got := w.observe(now.Add(16*time.Second), gpuprobe.Optional[float64]{}); got != 1 {
		t.Errorf("16 s later %g", got)
	}
	if got := w.observe(now.Add(17*time.Second), some(0.)); got != 1 {
		t.Errorf("seeing again %g", got)
	}
}

// closedLoop plays a balancer that shares load by the weights of three equal
// nodes, one of which has a co-tenant, and reads each weight every two seconds.
// Utilisation is what a node's share and its co-tenant make of it. It returns
// the co-tenant node's share of the load in the last minute: lowest, highest
// and mean.
func closedLoop(load, tenant float64, rule func(node int, now time.Time, u float64) float64) (lo, hi, mean float64) {
	const nodes, seconds = 3, 300
	weights := [nodes]float64{1, 1, 1}
	lo, n := 1, 0
	for s := range seconds {
		now := time.Unix(int64(s), 0)
		total := 0.
		for _, w := range weights {
			total += w
		}
		share := weights[0] / total
		if s >= seconds-60 {
			lo, hi, mean, n = min(lo, share), max(hi, share), mean+share, n+1
		}
		var next [nodes]float64
		for i, w := range weights {
			u := load * nodes * w / total
			if i == 0 {
				u += tenant
			}
			next[i] = rule(i, now, min(u, 1))
		}
		if s%2 == 1 {
			weights = next
		}
	}
	return lo, hi, mean / float64(n)
}

// What the rule buys: it takes load off a node with a co-tenant as raw idle
// time does, but comes to rest, where idle time swings for ever.
func TestTheWeightDoesNotSwing(t *testing.T) {
	for _, test := range []struct{ load, tenant float64 }{{0.5, 0.5}, {0.6, 0.4}, {0.7, 0.3}, {0.8, 0}} {
		agents := [3]weight{{shedAt: 0.75}, {shedAt: 0.75}, {shedAt: 0.75}}
		lo, hi, mean := closedLoop(test.load, test.tenant, func(i int, now time.Time, u float64) float64 {
			return agents[i].observe(now, some(u))
		})
		rawLo, rawHi, _ := closedLoop(test.load, test.tenant, func(_ int, _ time.Time, u float64) float64 {
			return max(math.Round((1-u)*100)/100, 0.01)
		})
		t.Logf("load %.0f %%, co-tenant %.0f %%: share %.3f to %.3f; by idle time %.3f to %.3f", test.load*100, test.tenant*100, lo, hi, rawLo, rawHi)
		if hi-lo > 0.03 {
			t.Errorf("load %g, co-tenant %g: the share swings from %.3f to %.3f", test.load, test.tenant, lo, hi)
		}
		if test.tenant > 0 && mean > 0.30 {
			t.Errorf("load %g, co-tenant %g: the node keeps %.3f of the load", test.load, test.tenant, mean)
		}
		if test.tenant > 0 && rawHi-rawLo < 2*(hi-lo) {
			t.Errorf("load %g, co-tenant %g: idle time swings no more, from %.3f to %.3f", test.load, test.tenant, rawLo, rawHi)
		}
	}
}
