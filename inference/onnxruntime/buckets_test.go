package onnxruntime

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPlanKeepsSimilarLengthsTogether(t *testing.T) {
	tests := []struct {
		name    string
		lengths []int
		padding bool
		want    []int // the padded length of each sequence's bucket
		passes  int
	}{
		{"empty batch", nil, true, nil, 0},
		{"one sequence", []int{7}, true, []int{7}, 1},
		{"equal lengths share a pass", []int{30, 30, 30}, true, []int{30, 30, 30}, 1},
		{"near lengths are padded", []int{30, 28, 31}, true, []int{31, 31, 31}, 1},
		{"far lengths are not", []int{120, 8, 9}, true, []int{120, 9, 9}, 2},
		{"without a mask nothing is padded", []int{9, 8, 9}, false, []int{9, 8, 9}, 2},
		{"a pass is bounded", []int{512, 512}, true, []int{512, 512}, 2},
		{"a longer sequence than the bound runs alone", []int{2000, 2000, 3}, true, []int{2000, 2000, 3}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			buckets := plan(tt.lengths, tt.padding)
			if len(buckets) != tt.passes {
				t.Errorf("got %d passes, want %d: %v", len(buckets), tt.passes, buckets)
			}
			if got := paddedLengths(t, tt.lengths, buckets); !slices.Equal(got, tt.want) {
				t.Errorf("got padded lengths %v, want %v", got, tt.want)
			}
		})
	}
}

// paddedLengths checks that every sequence is in one bucket that is long
// enough for it.
func paddedLengths(t *testing.T, lengths []int, buckets []bucket) []int {
	t.Helper()
	var padded []int
	if len(lengths) > 0 {
		padded = make([]int, len(lengths))
	}
	for _, b := range buckets {
		for _, s := range b.seqs {
			if padded[s] != 0 {
				t.Errorf("sequence %d is computed twice", s)
			}
			if padded[s] = b.length; b.length < lengths[s] {
				t.Errorf("sequence %d of %d tokens is cut to %d", s, lengths[s], b.length)
			}
		}
	}
	if slices.Contains(padded, 0) {
		t.Errorf("a sequence is left out: %v", padded)
	}
	return padded
}

func TestPlanIsAsCheapAsAnyPartition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		lengths := make([]int, 1+rng.IntN(6))
		for i := range lengths {
			lengths[i] = 1 + rng.IntN(200)
		}
		cost := 0
		buckets := plan(lengths, true)
		paddedLengths(t, lengths, buckets)
		for _, b := range buckets {
			cost += passCost(len(b.seqs), b.length)
		}
		if best := cheapestPartition(lengths, nil); cost != best {
			t.Fatalf("lengths %v: plan %v costs %d, and %d is possible", lengths, buckets, cost, best)
		}
	}
}

func passCost(seqs, length int) int {
	if seqs > 1 && seqs*length > maxPassTokens {
		return 1 << 30
	}
	return seqs*length + passOverhead
}

// cheapestPartition tries every way to put the remaining lengths into the
// groups opened so far or into a new one.
func cheapestPartition(rest []int, groups [][]int) int {
	if len(rest) == 0 {
		cost := 0
		for _, g := range groups {
			cost += passCost(len(g), slices.Max(g))
		}
		return cost
	}
	best := cheapestPartition(rest[1:], append(slices.Clone(groups), []int{rest[0]}))
	for i := range groups {
		grown := slices.Clone(groups)
		grown[i] = append(slices.Clone(groups[i]), rest[0])
		best = min(best, cheapestPartition(rest[1:], grown))
	}
	return best
}

func TestPlanWastesLittleOnMixedLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	real, padded := 0, 0
	for range 50 {
		lengths := make([]int, 32)
		for i := range lengths {
			lengths[i] = 2 + int(min(126, rng.ExpFloat64()*28))
			real += lengths[i]
		}
		for _, b := range plan(lengths, true) {
			padded += len(b.seqs) * b.length
		}
	}
	if waste := float64(padded-real) / float64(real); waste > 0.10 {
		t.Errorf("%.1f %% of padding on batches of 32, want at most 10 %%", 100*waste)
	}
}
