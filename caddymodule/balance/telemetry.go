package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// Signal is a value that nodes tell of themselves.
type Signal uint8

// The signals. Shares are 0 to 1.
const (
	Utilization Signal = iota // share of the last second in which the GPU worked
	Memory                    // share of GPU memory in use
	KVCache                   // share of a language model's cache in use
	Temperature               // °C
	Waiting                   // requests that wait at the node
	InFlight                  // requests that wait or run at the node
	Unwell                    // 1 if the node says that it can't serve, 0 if it can
	WeightShare               // the share of its weight that the node asks for
	signals
)

// Report is what a node said of itself at one time. The zero value says
// nothing.
type Report struct {
	// At is when it was measured, which is not when it arrived.
	At time.Duration
	// Interval is how often reports come. One counts in full until it is 3
	// intervals old, and not at all from 10 on.
	Interval time.Duration

	values [signals]float64
	known  [signals]bool
}

// Set tells the value of a signal. What is no number is not told.
func (r *Report) Set(s Signal, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	r.values[s], r.known[s] = v, true
}

// Get returns the value of a signal; ok is false if it was not told.
func (r *Report) Get(s Signal) (v float64, ok bool) { return r.values[s], r.known[s] }

const (
	// Reports fade from freshFor to staleFrom intervals of age, to neutral:
	// a node whose telemetry has stopped is judged by its answers alone, not
	// as if it were saturated (llm-d issue 2408 is that mistake).
	freshFor  = 3
	staleFrom = 10
)

// told is what is known of a node from its reports. Written under the node's
// lock, its atomic fields read without it; those of type Uint64 hold the bits
// of a float64.
type told struct {
	any     atomic.Bool   // whether anything is: most nodes have no telemetry
	fresh   atomic.Int64  // until when the newest report counts in full
	stale   atomic.Int64  // and from when not at all
	usage   atomic.Uint64 // newest utilisation
	foreign atomic.Uint64 // others' share of the GPU's time
	change  atomic.Uint64 // the slowdown by others since latency was measured
	others  atomic.Uint64 // others' requests at the node
	share   atomic.Uint64 // the share of its weight it asks for, 0: none

	newest    [signals]time.Duration // when it was measured
	avoidance []*Avoidance

	// Of the foreign share.
	learned    bool
	busy, idle float64
	reference  float64 // the foreign share at the latencies in the average
	renewed    float64 // the part of the average that is newer than the last report
}

// trust is how much what was told still counts: 1 while fresh, then less, 0 in
// the end.
func (t *told) trust(now time.Duration) float64 {
	fresh, stale := t.fresh.Load(), t.stale.Load()
	switch {
	case int64(now) <= fresh:
		return 1
	case int64(now) >= stale:
		return 0
	default:
		return float64(stale-int64(now)) / float64(stale-fresh)
	}
}

func load(bits *atomic.Uint64) float64 { return math.Float64frombits(bits.Load()) }

func store(bits *atomic.Uint64, v float64) { bits.Store(math.Float64bits(v)) }

// Hear takes in a report. Several watchers of one node may tell the same: each
// signal is taken once, and never one that is older than the last.
func (n *Node) Hear(now time.Duration, r Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &n.told
	fresh := r
	for s := range signals {
		if r.known[s] && r.At <= t.newest[s] {
			fresh.known[s] = false
		} else if r.known[s] {
			t.newest[s] = r.At
		}
	}
	if fresh.known == ([signals]bool{}) {
		return
	}
	// How much a report counts depends on its age. The newest decides; other
	// sources of the node are as good or better.
	if stale := int64(r.At + staleFrom*r.Interval); stale > t.stale.Load() {
		t.stale.Store(stale)
		t.fresh.Store(int64(r.At + freshFor*r.Interval))
	}
	n.history.advance(now, n.inFlight.Load())
	if u, ok := fresh.Get(Utilization); ok {
		n.hearUtilization(r.At, min(1, max(0, u)), r.Interval)
	}
	n.hearLoad(&fresh)
	if share, ok := fresh.Get(WeightShare); ok {
		store(&t.share, min(1, max(0, share)))
	}
	for _, a := range t.avoidance {
		if v, ok := fresh.Get(a.rule.Signal); ok {
			a.hear(r.At, v, r.Interval)
		}
	}
	t.any.Store(true)
	n.heard()
}

// othersGain is the weight of a new count of others' requests: counts fluctuate
// more than the load behind them.
const othersGain = 0.3

// hearLoad learns how many requests the node has that are not ours: those of
// other gateways, and of clients that go to it directly.
func (n *Node) hearLoad(r *Report) {
	_, own := n.history.over(r.At-historySlot, r.At)
	all, ok := r.Get(InFlight)
	if !ok {
		if all, ok = r.Get(Waiting); !ok {
			return
		}
		// A queue holds what the node does not serve already.
		knee, _ := n.knee.value()
		own = max(0, own-knee)
	}
	old := load(&n.told.others)
	store(&n.told.others, old+othersGain*(max(0, all-own)-old))
}
