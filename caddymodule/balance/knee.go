package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// A node serves some number of requests side by side as fast as it serves one,
// and beyond that each takes longer in proportion:
//
//	time to first byte = base × max(1, n / knee)   with n requests in flight
//
// That is exact for c workers or slots (knee = c), for processor sharing, and
// close for a server that batches (knee = its batch). The knee is learned from
// answers, because it is what configured weights are meant to tell and seldom
// do: with it four unequal nodes come within a tenth of the omniscient
// scheduler without any weights (TestUnequalNodesNeedNoWeights). Taking every
// node for one worker, as the cost function latency × in flight of Finagle,
// nginx and Traefik does, costs a sixth more (TestKneeIsWhatMakesWeights-
// Unnecessary).

// kneeGrid are the values that are told apart. The step of a third is about
// what the noise of service times lets one tell.
var kneeGrid = [...]float64{1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}

const (
	// kneeMemory is the time constant with which evidence fades, but one answer
	// leaves kneeKeep of it: a node that was avoided for a while has not become
	// a single worker by that.
	kneeMemory = 30 * time.Second
	kneeKeep   = 0.98

	// kneePrior is how much evidence a doubling of the knee takes, in squared
	// log residuals: about what three answers differ by (lognormal with sigma
	// 0.5). Nodes of which little is known are taken for single workers,
	// which spreads requests evenly.
	kneePrior = 0.7

	// kneeSurprise bounds what one answer may say against a model, in squared
	// log residuals: two standard deviations of such a service time. An answer
	// that is further from all models tells that the node has changed. As its
	// requests pile up at the same time, it would otherwise pass for a single
	// worker long after (TestNodeThatSlowsDownDoesNotPassForASingleWorker).
	kneeSurprise = 1
)

// knee learns where a node's latency begins to rise. Each value of the grid is
// a model of the node; every answer shows how well each would have predicted
// it, and the best of the last half minute is believed. It is written under
// the node's lock; best is read without it.
type knee struct {
	best atomic.Uint32 // index + 1 into kneeGrid, 0: nothing learned

	scale [len(kneeGrid)]float64 // moving average of the log of base, by model
	error [len(kneeGrid)]float64 // faded sum of squared residuals, each bounded
	known bool
}

// value returns the learned knee in requests; ok is false while unknown.
func (k *knee) value() (c float64, ok bool) {
	i := k.best.Load()
	if i == 0 {
		return 1, false
	}
	return kneeGrid[i-1], true
}

// learn takes in that a request which made n in flight waited so many seconds
// for its first byte, with the weights that averages leave old samples.
func (k *knee) learn(waited float64, n int, keep float64, since time.Duration) {
	logarithm := math.Log(max(waited, 1e-6))
	if !k.known {
		k.known = true
		for i := range kneeGrid {
			k.scale[i] = logarithm - kneeLog(n, i)
		}
		return
	}
	fade := max(kneeKeep, math.Exp(-float64(since)/float64(kneeMemory)))
	best, least := 0, math.Inf(1)
	for i := range kneeGrid {
		sample := logarithm - kneeLog(n, i)
		residual := sample - k.scale[i]
		k.error[i] = k.error[i]*fade + min(residual*residual, kneeSurprise)
		k.scale[i] += (1 - keep) * residual
		if e := k.error[i] + kneePenalty[i]; e < least {
			best, least = i, e
		}
	}
	k.best.Store(uint32(best) + 1)
}

// forget returns to "nothing learned".
func (k *knee) forget() {
	k.best.Store(0)
	k.known = false
	clear(k.error[:])
}

// kneeLog returns log(max(1, n/knee)) for the i-th value of the grid.
func kneeLog(n, i int) float64 {
	if n < len(logs) {
		return max(0, logs[n]-kneeLogs[i])
	}
	return max(0, math.Log(float64(n))-kneeLogs[i])
}

var (
	logs        [1024]float64
	kneeLogs    [len(kneeGrid)]float64
	kneePenalty [len(kneeGrid)]float64
)

func init() {
	for n := 1; n < len(logs); n++ {
		logs[n] = math.Log(float64(n))
	}
	for i, c := range kneeGrid {
		kneeLogs[i] = math.Log(c)
		kneePenalty[i] = kneePrior * math.Log2(c)
	}
}

// belowKnee is how much less an empty node costs than one at its knee. By the
// formula alone they cost the same; in truth latency begins to rise a little
// before, and emptier is safer where scores are otherwise alike.
const belowKnee = 0.2

// congestion is the factor by which load, the requests in flight with the next
// one as a multiple of the knee, stretches the time to first byte.
func congestion(load float64) float64 {
	if load > 1 {
		return load
	}
	return 1 - belowKnee + belowKnee*load
}
