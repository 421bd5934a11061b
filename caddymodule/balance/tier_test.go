package balance

import (
	"math"
	"testing"
)

func TestTiersSpillAsEnvoyDoes(t *testing.T) {
	for _, test := range []struct {
		name    string
		healthy []float64 // of 10 per tier
		want    []float64 // share per tier
	}{
		{"all well", []float64{10, 10}, []float64{1, 0}},
		{"two of seven lost is carried by the rest", []float64{10 * 5.0 / 7, 10}, []float64{1, 0}},
		{"half lost spills 30 %", []float64{5, 10}, []float64{0.7, 0.3}},
		{"first tier lost", []float64{0, 10}, []float64{0, 1}},
		{"first two lost", []float64{0, 0, 10}, []float64{0, 0, 1}},
		{"spill passes through a weak second tier", []float64{5, 1, 10}, []float64{0.7, 0.14, 0.16}},
		{"all weak: shared by health", []float64{2, 1}, []float64{2.0 / 3, 1.0 / 3}},
		{"nothing left of the second", []float64{3, 0}, []float64{1, 0}},
	} {
		var sum tiers
		for i, h := range test.healthy {
			sum.add(i+1, 10, h)
		}
		const draws = 10000
		got := make([]float64, len(test.want))
		for i := range draws {
			got[sum.choose(DefaultSpill, float64(i)/draws)-1] += 1.0 / draws
		}
		for i := range got {
			if math.Abs(got[i]-test.want[i]) > 0.001 {
				t.Errorf("%s: shares %.3f, want %.3f", test.name, got, test.want)
				break
			}
		}
	}
}

func TestNoTierWithoutHealthyNodes(t *testing.T) {
	var sum tiers
	sum.add(1, 1, 0)
	sum.add(2, 1, 0)
	if got := sum.choose(DefaultSpill, 0.5); got != 0 {
		t.Errorf("tier %d", got)
	}
}

func TestUnusedTierNumbersAreSkipped(t *testing.T) {
	var sum tiers
	sum.add(3, 1, 1)
	sum.add(MaxTier, 1, 1)
	if got := sum.choose(DefaultSpill, 0.5); got != 3 {
		t.Errorf("tier %d, want 3", got)
	}
}
