package nodeagent

import (
	"math"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// The weight of a node by its GPU's utilisation u, smoothed:
//
//	1                                      up to shedAt
//	1 - (1-minWeight)(u-shedAt)/(1-shedAt) above
//
// Raw idle time as the weight swings: the load goes where the idle time was,
// and both sides change places with each reading. Three things keep this one
// still: it is flat where there is room, slow (smoothing), and stays until it
// would change by weightStep.
const (
	// minWeight keeps some load on a node whose GPU is always busy. Utilisation
	// counts time with any work, so it says little about how much more fits.
	minWeight = 0.25
	// smoothing is the time constant of the moving average: a few readings of a
	// load balancer, whose own change must show before the next is made.
	smoothing = 5 * time.Second
	// weightStep is the least change that is reported, except at the ends.
	weightStep = 0.05
)

// weight follows the utilisation of a node. It is used by one goroutine.
type weight struct {
	shedAt float64

	at       time.Time // of the latest observation
	average  float64   // of the utilisation
	reported float64
}

// observe takes the utilisation, if it is known, and returns the weight.
// Without one for three time constants the node has its full weight: blindness
// is not load.
func (w *weight) observe(now time.Time, utilization gpuprobe.Optional[float64]) float64 {
	u, ok := utilization.Get()
	switch {
	case !ok && (w.at.IsZero() || now.Sub(w.at) > 3*smoothing):
		*w = weight{shedAt: w.shedAt, reported: 1}
		return w.reported
	case !ok:
		return w.reported
	case w.at.IsZero():
		w.average = u
	default:
		keep := math.Exp(-now.Sub(w.at).Seconds() / smoothing.Seconds())
		w.average = keep*w.average + (1-keep)*u
	}
	w.at = now
	exact := weightAt(w.average, w.shedAt)
	switch {
	case exact > 1-weightStep/5: // the average nears its end without reaching it
		w.reported = 1
	case w.reported == 0 || math.Abs(exact-w.reported) >= weightStep:
		w.reported = exact
	}
	return w.reported
}

func weightAt(u, shedAt float64) float64 {
	if u <= shedAt || shedAt >= 1 {
		return 1
	}
	return 1 - (1-minWeight)*(min(u, 1)-shedAt)/(1-shedAt)
}
