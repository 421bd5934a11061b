//go:build !race

// One goroutine in virtual time: nothing races, and with the race detector it
// takes ten times as long. The tests without cgo run it.

package balance

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// What the limit finds, in the simulator of flow_sim_test.go, against limits
// that judge by latency and against one set by hand.

// learnedLimit is this package's limit.
type learnedLimit struct{ *Limit }

func newLearned(clock time.Duration) flowLimit { return learnedLimit{NewLimit(clock)} }

func (l learnedLimit) limit(time.Duration) int { return l.Now() }
func (l learnedLimit) done(now, began time.Duration, inFlight int, v Verdict) {
	l.Done(now, began, inFlight, v)
}

// fixedLimit is a limit set by hand.
type fixedLimit int

func (l fixedLimit) limit(time.Duration) int                   { return int(l) }
func (l fixedLimit) done(_, _ time.Duration, _ int, _ Verdict) {}

// vegasLimit is in the manner of Netflix's concurrency-limits: the queue at the
// node is what the limit holds beyond limit × least latency / latency, and is
// kept between 3 and 6 decades of the limit.
type vegasLimit struct {
	now, least float64
	samples    int
}

func newVegas() flowLimit { return &vegasLimit{now: limitStart} }

func (l *vegasLimit) limit(time.Duration) int { return int(l.now) }

func (l *vegasLimit) done(now, began time.Duration, inFlight int, _ Verdict) {
	took := (now - began).Seconds()
	if l.samples++; l.least == 0 || took < l.least || float64(l.samples) > 30*l.now {
		l.least, l.samples = took, 0
		return
	}
	if float64(2*inFlight) < l.now {
		return
	}
	queue := math.Ceil(l.now * (1 - l.least/took))
	decades := max(1, math.Log10(l.now))
	switch {
	case queue <= decades:
		l.now += 6 * decades
	case queue < 3*decades:
		l.now += decades
	case queue > 6*decades:
		l.now -= decades
	}
	l.now = min(MaxLimit, max(1, l.now))
}

// gradientLimit is in the manner of the same library's Gradient2: the limit
// follows the ratio of a long average of latency to the present one.
type gradientLimit struct{ now, long float64 }

func newGradient() flowLimit { return &gradientLimit{now: limitStart} }

func (l *gradientLimit) limit(time.Duration) int { return int(l.now) }

func (l *gradientLimit) done(now, began time.Duration, inFlight int, _ Verdict) {
	took := (now - began).Seconds()
	if l.long == 0 {
		l.long = took
	}
	l.long += (took - l.long) * 2 / 601
	if l.long/took > 2 {
		l.long *= 0.95
	}
	if float64(2*inFlight) < l.now {
		return
	}
	gradient := max(0.5, min(1, 1.5*l.long/took))
	l.now = min(MaxLimit, max(1, 0.8*l.now+0.2*(l.now*gradient+4)))
}

// saturated runs a node that always has a next request, for 400 services at
// least, and returns the second half's answers relative to capacity and what
// was in flight.
func saturated(n flowNature, gateways int, seed uint64, newLimit func(gateway int) flowLimit) (throughput, inFlight float64, r flowResult) {
	length := max(40*sec, 400*n.service)
	if n.service < 10*ms {
		length = 10 * sec
	}
	r = flowRun(flowScenario{
		nodes: []flowNature{n}, gateways: gateways, length: length, seed: seed,
		newLimit: func(gateway, _ int) flowLimit { return newLimit(gateway) },
	})
	half := length / 2
	return r.throughput(half, length) * n.service.Seconds() / float64(n.slots), r.mean(r.flying, half, length), r
}

func TestLimitFindsTheKnee(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	const slots = 8
	t.Logf("answers relative to capacity, and requests in flight at the node; %d slots", slots)
	t.Logf("%-9s %-5s %-9s %12s %12s %12s %12s", "node", "", "gateways", "auto", "by hand", "Vegas", "Gradient2")
	for _, kind := range []flowKind{fifo, sharing, batching, eager} {
		knee := slots
		if kind == eager {
			knee = 2 * slots
		}
		for _, service := range []time.Duration{ms, 10 * ms, sec} {
			for _, gateways := range []int{1, 4} {
				n := flowNature{kind: kind, slots: slots, service: service, sigma: simSigma}
				auto, inFlight := 0.0, 0.0
				const seeds = 3
				for seed := range uint64(seeds) {
					x, n, _ := saturated(n, gateways, seed, func(int) flowLimit { return newLearned(0) })
					auto, inFlight = auto+x/seeds, inFlight+n/seeds
				}
				row := fmt.Sprintf("%-9v %-5v %9d  %.2f (%4.1f)", kind, service, gateways, auto, inFlight)
				for _, other := range []func(int) flowLimit{
					func(int) flowLimit { return fixedLimit((knee + gateways - 1) / gateways) },
					func(int) flowLimit { return newVegas() },
					func(int) flowLimit { return newGradient() },
				} {
					x, n, _ := saturated(n, gateways, 0, other)
					row += fmt.Sprintf("  %.2f (%4.0f)", x, n)
				}
				t.Log(row)
				if auto < 0.94 {
					t.Errorf("auto reaches %.2f of the node's capacity", auto)
				}
				most := 1.7 * float64(knee)
				if gateways > 1 {
					most = 4 * float64(knee)
				}
				if inFlight > most {
					t.Errorf("auto has %.1f in flight, want at most %.1f", inFlight, most)
				}
			}
		}
	}
}

// What the first round trips teach of a small node is often wrong, and to find
// out must not cost half of it.
func TestSmallNodeIsUsedWhileItsLimitIsFound(t *testing.T) {
	const slots, service, sigma = 2, 20 * ms, 0.25
	capacity := slots / (service.Seconds() * math.Exp(sigma*sigma/2))
	worst := 1.0
	for seed := range uint64(100) {
		r := flowRun(flowScenario{
			nodes: []flowNature{{kind: fifo, slots: slots, service: service, sigma: sigma}}, length: 4 * sec, seed: seed,
			newLimit: func(int, int) flowLimit { return newLearned(0) },
		})
		worst = min(worst, r.throughput(sec, 3*sec)/capacity)
	}
	t.Logf("at least %.2f of its capacity in the first 2 s", worst)
	if worst < 0.93 {
		t.Errorf("%.2f of its capacity in the first 2 s", worst)
	}
}

// Each look at a limit of one costs half of a node of two slots: one look will do.
func TestSmallNodeIsUsedWhileItsLimitIsLookedAfter(t *testing.T) {
	const slots, service, runs = 2, 20 * ms, 100
	mean := 0.0
	for seed := range uint64(runs) {
		r := flowRun(flowScenario{
			nodes: []flowNature{{kind: fifo, slots: slots, service: service, sigma: 0.25}}, length: 14 * sec, seed: seed,
			newLimit: func(int, int) flowLimit { return newLearned(0) },
		})
		mean += r.throughput(2*sec, 12*sec) * service.Seconds() / slots / runs
	}
	t.Logf("%.3f of its capacity over 10 s", mean)
	if mean < 0.985 {
		t.Errorf("%.3f of its capacity over 10 s", mean)
	}
}

func TestLimitWithHeavyTails(t *testing.T) {
	for _, c := range []struct {
		name        string
		sigma, long float64
	}{
		{"sigma 1", 1, 0},
		{"one of twenty ten times as long", simSigma, 0.05},
	} {
		for _, kind := range []flowKind{fifo, sharing, batching} {
			for _, gateways := range []int{1, 4} {
				n := flowNature{kind: kind, slots: 16, service: 10 * ms, sigma: c.sigma, long: c.long}
				x, inFlight, _ := saturated(n, gateways, 0, func(int) flowLimit { return newLearned(0) })
				t.Logf("%s, %v, %d gateways: %.2f of capacity, %.1f in flight", c.name, kind, gateways, x, inFlight)
				if x < 0.9 || inFlight > 4*16 {
					t.Errorf("%s, %v, %d gateways: %.2f of capacity, %.1f in flight", c.name, kind, gateways, x, inFlight)
				}
			}
		}
	}
}

// Without clocks that agree, gateways see less of what they do; but they don't
// drive each other up without bound.
func TestLimitsWithoutACommonClockAreBounded(t *testing.T) {
	for _, kind := range []flowKind{fifo, sharing, batching} {
		n := flowNature{kind: kind, slots: 16, service: 10 * ms, sigma: simSigma}
		for _, agree := range []bool{true, false} {
			x, inFlight := 0.0, 0.0
			const seeds = 4
			for seed := range uint64(seeds) {
				y, n, _ := saturated(n, 4, seed, func(gateway int) flowLimit {
					if agree {
						return newLearned(0)
					}
					return newLearned(time.Duration(gateway) * 1234567891)
				})
				x, inFlight = x+y/seeds, inFlight+n/seeds
			}
			t.Logf("%v, clocks agree %v: %.2f of capacity, %.1f in flight", kind, agree, x, inFlight)
			most := 2.0
			if !agree {
				most = 1.4 * limitSlowdown
			}
			if x < 0.95 || inFlight > most*16 {
				t.Errorf("%v, clocks agree %v: %.2f of capacity, %.1f in flight", kind, agree, x, inFlight)
			}
		}
	}
}

// within returns for how long after from the answers per second, over windows
// of a second, are below the share of what is possible for good.
func (r flowResult) within(from, to time.Duration, possible float64) time.Duration {
	for t := to - sec; t >= from; t -= sec / 4 {
		if r.throughput(t, t+sec) < 0.8*possible {
			return t + sec - from
		}
	}
	return 0
}

// settles returns how long after from what is in flight is within [low, high]
// for good, over means of a second.
func (r flowResult) settles(from, to time.Duration, low, high float64) time.Duration {
	for t := to - sec; t >= from; t -= sec / 4 {
		if m := r.mean(r.flying, t, t+sec); m < low || m > high {
			return t + sec - from
		}
	}
	return 0
}

func TestLimitFollowsTheNode(t *testing.T) {
	const unit = 20 * sec
	changed := func(now time.Duration) bool { return now >= unit && now < 2*unit }
	for _, kind := range []flowKind{fifo, sharing, batching} {
		for _, gateways := range []int{1, 4} {
			run := func(n flowNature) flowResult {
				n.kind, n.sigma = kind, simSigma
				return flowRun(flowScenario{nodes: []flowNature{n}, length: 3 * unit, gateways: gateways, newLimit: func(int, int) flowLimit { return newLearned(0) }})
			}
			slowed := run(flowNature{slots: 8, service: 5 * ms, slowed: func(now time.Duration) float64 {
				if changed(now) {
					return 1 / 0.15
				}
				return 1
			}})
			const possible = 8 / 0.005
			t.Logf("%v, %d gateways: a co-tenant takes 85 %%: short of the rest for %v, after it left for %v", kind, gateways,
				slowed.within(unit, 2*unit, 0.15*possible), slowed.within(2*unit, 3*unit, possible))
			if x := slowed.throughput(unit+2*sec, 2*unit); x < 0.9*0.15*possible {
				t.Errorf("%v, %d gateways: %.0f answers/s beside the co-tenant, of %.0f possible", kind, gateways, x, 0.15*possible)
			}
			if x := slowed.throughput(2*unit+2*sec, 3*unit); x < 0.95*possible {
				t.Errorf("%v, %d gateways: %.0f answers/s after it, of %.0f possible", kind, gateways, x, possible)
			}

			fewer := run(flowNature{slots: 32, service: 5 * ms, slotsAt: func(now time.Duration) int {
				if changed(now) {
					return 8
				}
				return 32
			}})
			down, up := fewer.settles(unit, 2*unit, 6, 24), fewer.within(2*unit, 3*unit, 32/0.005)
			t.Logf("%v, %d gateways: 32 slots become 8: followed after %v; 32 again: all of them used after %v", kind, gateways, down, up)
			if down > 10*sec || up > 8*sec {
				t.Errorf("%v, %d gateways: 32 slots become 8: followed after %v; 32 again: after %v", kind, gateways, down, up)
			}
		}
	}
}

// Between two overloads there is little to do for long.
func TestLowLoadTeachesNothing(t *testing.T) {
	for _, kind := range []flowKind{fifo, sharing, batching} {
		n := flowNature{kind: kind, slots: 16, service: 10 * ms, sigma: simSigma}
		for _, low := range []float64{0.02, 0.3, 0.6} {
			r := flowRun(flowScenario{
				nodes: []flowNature{n}, length: 80 * sec,
				newLimit: func(int, int) flowLimit { return newLearned(0) },
				newQueue: func(int) flowQueue { return newLineQueue(1000, 10*sec) },
				rate: func(now time.Duration) float64 {
					if now < 20*sec || now > 70*sec {
						return 2 * 1600
					}
					return low * 1600
				},
			})
			before, after := r.mean(r.limits, 15*sec, 20*sec), r.mean(r.limits, 65*sec, 70*sec)
			again := r.throughput(70*sec+200*ms, 72*sec) / 1600
			t.Logf("%v, load %.2f: limit %.1f before, %.1f after 50 s of it; then %.2f of capacity at once", kind, low, before, after, again)
			if after < 0.7*before || after > 1.4*before || again < 0.93 {
				t.Errorf("%v, load %.2f: limit %.1f before, %.1f after 50 s of it; then %.2f of capacity at once", kind, low, before, after, again)
			}
		}
	}
}

func TestGatewayThatJoinsGetsItsShare(t *testing.T) {
	for _, slots := range []int{4, 32} {
		n := flowNature{kind: fifo, slots: slots, service: 10 * ms, sigma: simSigma}
		r := flowRun(flowScenario{
			nodes: []flowNature{n}, length: 60 * sec, gateways: 2,
			join:     func(gateway int) time.Duration { return time.Duration(gateway) * 20 * sec },
			newLimit: func(int, int) flowLimit { return newLearned(0) },
		})
		var answers [2]float64
		for _, q := range r.requests {
			if q.ended > 40*sec {
				answers[q.gateway]++
			}
		}
		share := answers[1] / (answers[0] + answers[1])
		inFlight := r.mean(r.flying, 40*sec, 60*sec)
		t.Logf("%d slots: the second gateway has %.0f %% of the answers, %.1f are in flight", slots, 100*share, inFlight)
		if share < 0.25 || share > 0.75 {
			t.Errorf("%d slots: the second gateway has %.0f %% of the answers", slots, 100*share)
		}
		if inFlight > 4*float64(slots) {
			t.Errorf("%d slots: %.1f in flight", slots, inFlight)
		}
	}
}
