package balance

import (
	"math"
	"time"
)

// A GPU's utilisation includes what this gateway itself put there. Taken as it
// is, it makes weights swing: traffic leaves a node because it is there. What
// counts is the foreign share, the part of the GPU's time that others take:
//
//	utilisation = own + (1 - own) × foreign
//
// where own is the share of the time in which requests of ours were at the
// node. NVML calls a GPU busy whenever anything runs on it, so only the time
// without requests of ours tells of others; a node that is never without tells
// nothing, and the last foreign share stands.
//
// Work takes 1/(1 - foreign) times as long beside others, and the average
// latency comes to say so by itself. What it can't say is that others came or
// left since its last sample. So it is the change of the foreign share since
// then that counts:
//
//	slowdown = (1 - foreign when latency was measured) / (1 - foreign now)
//
// A utilisation that is always wrong therefore hardly matters, one that is no
// longer told fades to nothing, and one that moves without any effect on
// latency is found out by the next answers, or forgotten.
//
// Above shed_at a node loses near ties as well, whatever its answers say: load
// moves away from it while others have room. The simulator shows what each of
// this buys, and that telemetry, right or wrong, makes nothing worse by more than
// chance (foreign_test.go).

const (
	utilizationWindow = time.Second // NVML: between 1/6 s and 1 s, by the card

	// idleForAny is the share of a window without own requests from which
	// others can be told from ourselves.
	idleForAny = 0.15

	// foreignMax keeps the last percent, which is rounding, from deciding.
	foreignMax = 0.95

	// Up to slowdownNoise, and down to its inverse, a change is taken for noise:
	// with several gateways the others' requests are foreign, and come and go.
	// Beyond slowdownMax it is left to the answers to say more.
	slowdownNoise = 1.5
	slowdownMax   = 4

	// shedPenalty is what a foreign share of 1 costs above shed_at: just more
	// than nearTie. Cut-offs at a utilisation made p99 a hundred times worse;
	// with a penalty of 1.5 a node that always reports 100 % costs a tenth of
	// p99 at high load.
	shedPenalty = 1.25

	// shedRamp is over how much utilisation beyond shed_at it comes to count.
	shedRamp = 0.05

	// DefaultShedAt is the utilisation from which load moves away.
	DefaultShedAt = 0.75
)

// hearUtilization takes in a new sample. Called with the lock held.
func (n *Node) hearUtilization(at time.Duration, u float64, interval time.Duration) {
	t := &n.told
	own, _ := n.history.over(at-utilizationWindow, at)
	// A window tells as much as it was free of us, and replaces as much of
	// what was known before.
	if idle := 1 - own; idle >= idleForAny {
		t.busy = t.busy*(1-idle) + u - own
		t.idle = t.idle*(1-idle) + idle
		store(&t.foreign, min(foreignMax, max(0, t.busy/t.idle)))
	}
	store(&t.usage, u)
	foreign := load(&t.foreign)
	if !t.learned {
		t.learned = true
		t.reference = foreign
	}
	// The part of the average that was measured within the window has the new
	// foreign share in it; and what is forgotten of latency without traffic is
	// forgotten here, too.
	within := min(1, float64(utilizationWindow)/float64(max(interval, 1)))
	kept := math.Pow(1-t.renewed, within) * math.Exp(-float64(interval)/float64(latencyIdle))
	n.relieve(foreign)
	t.reference += (foreign - t.reference) * (1 - kept)
	t.renewed = 0
	n.compare()
}

// relieve takes the slowness out of the average that others caused who have
// left: the node gets too few requests to show it by itself. A node becomes no
// better by that than it usually is. Called with the lock held.
func (n *Node) relieve(foreign float64) {
	t, average, usual := &n.told, n.latency.known(), load(&n.warmup.usual)
	change := (1 - t.reference) / (1 - foreign)
	if change > 1/slowdownNoise || usual == 0 || average <= usual {
		return
	}
	n.latency.average.Store(math.Float64bits(max(usual, average*change)))
	t.reference = foreign
}

// compare works out the slowdown since the latencies in the average. Called
// with the lock held.
func (n *Node) compare() {
	t := &n.told
	change := (1 - t.reference) / (1 - load(&t.foreign))
	store(&t.change, max(1, min(change/slowdownNoise, slowdownMax)))
}

// expected is the latency to reckon with in view of what was told of the GPU.
func (t *told) expected(now time.Duration, average, shedAt float64) float64 {
	trust := t.trust(now)
	if trust == 0 {
		return average
	}
	ramp := min(1, max(0, (load(&t.usage)-shedAt)/shedRamp))
	penalty := max(load(&t.change), 1+(shedPenalty-1)*load(&t.foreign))
	return average * (1 + (penalty-1)*ramp*trust)
}
