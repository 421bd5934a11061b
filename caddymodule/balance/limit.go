package balance

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// MaxLimit bounds the limits that are learned.
const MaxLimit = 1024

const (
	// limitStart is safe on a node that works on one request at a time, and
	// doubles within a few latencies on one that can do more (slowStart).
	limitStart = 2

	// limitRatio is how much more is let in than the node is believed to
	// need: the two levels are compared by it, and it bridges the way between
	// an answer and the next request.
	limitRatio = 1.33

	// limitGain is what one percent more in flight must bring in throughput,
	// in percent, to be worth it. On a FIFO or sharing node it brings 1 up to
	// the knee and 0 beyond; on a batching node it falls slowly from 1, to 0
	// beyond a full batch.
	limitGain = 0.3

	// limitStrongGain in two steps running makes the limit double. It is more
	// than one of four gateways gains that takes from the others.
	limitStrongGain = 0.85

	// How many standard errors the gain must be off limitGain for a step up
	// or down: too low a limit costs throughput, too high a one only some
	// waiting at the node.
	limitSureUp, limitSureDown = 0.3, 1.0

	// limitSample is how many answers a level must have to be judged, unless what
	// it lacks is so plain that it is limitPlain standard errors off limitGain.
	limitSample = 16
	limitPlain  = 3.0

	// A slot is a power of two of milliseconds and lasts at least limitSlot
	// latencies. The shortest is long against the error of clocks that NTP
	// keeps.
	limitSlot    = 4
	limitMinSlot = 64 * time.Millisecond
	limitMaxSlot = 16 * time.Second

	// A cycle is one slot at the lower level, limitUpper slots at the upper
	// one, and the rest at the upper one to wait for answers: a slot's slowest
	// answers come long after it, and without them the shorter stretch would
	// look faster.
	limitCycle = 8
	limitUpper = 3

	// limitJump is how many times slower or faster a node at its limit must
	// answer for what is known of its knee to be searched anew.
	limitJump = 2.0

	// limitSlowdown is how many times slower than at its best a node may
	// answer for the limit still to be raised. A batching node takes up to
	// twice as long with full batches waiting as with nothing to do; the rest
	// is for chance. limitForget is the time constant with which the best is
	// forgotten.
	limitSlowdown = 3.0
	limitForget   = 10 * time.Minute

	// limitFair is the limit above which steps up are the smaller the larger
	// the limit is, by its root, while steps down stay in proportion: gateways
	// that share a node come to have equal shares, as TCP's flows do.
	limitFair = 8.0

	// limitHold is for how many cycles a level that was clearly too low is not
	// tried again. A look takes a slot of one cycle and may cost half of what the
	// node can do meanwhile: with this, a thousandth.
	limitHold = 64

	// The steps down, in logarithms of the limit: the first after a step up,
	// how much each grows over the one before, and the longest.
	limitFirstStep, limitStepGrowth, limitLongestStep = 0.05, 1.8, 0.29
)

// Limit learns how many requests a node can use at a time: the knee of its
// throughput, beyond which more requests in flight only wait at the node,
// where no other node can take them.
//
// A latency that rises is no sign of it: it rises as well when a co-tenant
// slows the GPU, and doubles on a batching node that is half empty. So the
// limit is moved on purpose, and the node asked what the move changed. Most of
// the time it stands at an upper level, a third above the knee as it is
// believed; for one slot of time in eight, it stands at the knee itself. By
// Little's law the throughputs at the two levels are as their limits over
// their latencies. What the upper level gains decides: much, and the knee lies
// higher; nothing, and it may lie lower; neither for sure, and nothing is
// changed. BBR probes bandwidth in such cycles; Netflix's Vegas and Gradient2
// judge by latency alone and are what the tests compare with. A limit whose node
// suddenly answers much faster or more slowly is doubled or halved for as long
// as that gains; one that has learned nothing yet begins with a slow start.
//
// Answers count only while the node is held at the limit four times of five:
// with less load, throughput and latency are the clients' doing, and nothing
// is learned or forgotten.
//
// Several gateways may share a node. One that lets in less while the others
// don't sees little change, and would take a queue that it shares for spare
// capacity. So slots begin at round numbers of the wall clock, and their
// length follows from the latency, which all of them see alike: gateways whose
// clocks agree to within a slot move together and see what one would. If they
// don't agree, limitSlowdown bounds what they do to each other.
//
// Done must be called under the lock of the limit's node, Now may be called
// without.
type Limit struct {
	now atomic.Int32

	clock   time.Duration // added to a time, gives the wall clock's
	knee    float64       // the lower level
	mode    limitMode
	length  time.Duration // of slots
	until   time.Duration // end of the present slot
	cycle   int64
	refused bool // in this slot

	latency float64 // moving average of the time that answers take, in seconds
	known   float64 // how many answers it is of
	best    float64 // the lowest that was, and bestAt when
	bestAt  time.Duration
	proven  float64 // the knee when the node last answered in good time
	scatter limitScatter

	// The answers of this cycle, and of cycles that left it undecided. While
	// searching, upper has those at the present limit.
	lower, upper             limitWindow
	lowerBefore, upperBefore limitLevel
	recent                   limitLevel // that came in this slot, to requests that met the lower level
	spare                    float64    // the others of this slot
	step                     float64    // the next one down
	rising                   bool       // the last step was up
	usual                    float64    // latency at the upper level, in seconds; 0: not known
	floor                    float64    // the knee is above, until a time
	floorUntil               time.Duration

	// While searching: the level before, the knee if this one is worse, and the
	// level below which nothing is to be found.
	before limitLevel
	back   float64
	least  float64
	grown  bool

	slowStart slowStart
}

type limitMode uint8

const (
	limitSlowStart limitMode = iota
	limitUp
	limitDown
	limitSteady
)

// NewLimit returns a limit that has learned nothing. clock is what to add to
// the times it will hear of to get the time since the Unix epoch.
func NewLimit(clock time.Duration) *Limit {
	l := &Limit{clock: clock, knee: limitStart, back: limitStart, step: limitLongestStep}
	l.scatter.variance = 0.25
	l.now.Store(limitStart)
	return l
}

// Now returns the present limit, from 1 to MaxLimit.
func (l *Limit) Now() int { return int(l.now.Load()) }

// Done hears of the end of a request that began when inFlight requests were at
// the node, itself included.
func (l *Limit) Done(now, began time.Duration, inFlight int, v Verdict) {
	took := (now - began).Seconds()
	if now >= l.until {
		if l.until == 0 {
			l.latency = took
		} else {
			l.close(now)
		}
		l.begin(now)
	}
	ok := v == Served || v == Alive
	l.lower.observe(began, took, inFlight, ok)
	l.upper.observe(began, took, inFlight, ok)
	if ok {
		if float64(inFlight) >= math.Floor(l.knee) {
			l.recent.add(limitLevel{1, took, float64(inFlight)})
		} else {
			l.spare++
		}
		l.known++
		l.latency += (took - l.latency) / min(l.known, max(limitSample, 2*l.knee))
		l.scatter.observe(now, took, l.latency)
		if l.mode == limitSlowStart {
			l.start(now, began, inFlight)
		}
	} else if v == Busy {
		l.refuse()
	}
}

// start doubles the limit until a first search can begin: downwards, because
// gateways that share a node end their slow starts one by one, and one that
// searched upwards while the others don't would gain by what it takes from
// them.
func (l *Limit) start(now, began time.Duration, inFlight int) {
	s := &l.slowStart
	if !s.observe(now, began, inFlight, l.Now()) {
		return
	}
	enough := s.slower() || l.slow(s.round.latency())
	switch s.next(now); {
	case !enough && l.knee < MaxLimit:
		l.knee *= 2
	case l.knee > 2*limitStart:
		l.knee /= 2
		l.research(limitDown)
		l.least = limitStart // twice of it was better, and to try half of it costs half the node
	default:
		l.settle(limitStart)
	}
	l.set(int(l.knee))
}

// refuse follows a node that says itself that it has no room.
func (l *Limit) refuse() {
	if !l.refused {
		l.refused = true
		l.settle(max(1, 0.75*l.knee))
		l.now.Store(int32(l.knee))
	}
}

// begin starts the slot that now is in.
func (l *Limit) begin(now time.Duration) {
	want := min(limitMaxSlot, max(limitMinSlot, limitSlot*seconds(l.latency)))
	if 4*want > 5*l.length || 3*want < l.length {
		l.length = time.Millisecond << bits.Len64(uint64((want-1)/time.Millisecond))
		l.reset()
	}
	index := int64((now + l.clock) / l.length)
	l.until = time.Duration(index+1)*l.length - l.clock
	l.refused = false

	limit := int(math.Round(l.knee))
	if l.mode == limitSlowStart {
		return
	}
	if l.mode != limitSteady {
		if w := &l.upper; w.limit == limit && w.valid() { // not enough yet
			w.to = l.until - l.length/2
		} else {
			*w = limitWindow{from: now, to: l.until - l.length/2, limit: limit}
		}
		l.set(limit)
		return
	}
	if cycle := index / limitCycle; cycle != l.cycle {
		l.cycle = cycle
		l.reset()
	}
	if index%limitCycle == 0 {
		l.lower = limitWindow{from: now, to: l.until, limit: limit}
		l.set(limit)
		return
	}
	limit = min(MaxLimit, max(limit+1, int(math.Round(limitRatio*l.knee))))
	if index%limitCycle <= limitUpper {
		if l.upper.to == 0 {
			l.upper = limitWindow{from: now, limit: limit}
		}
		l.upper.to = l.until
	}
	l.set(limit)
}

func (l *Limit) reset() {
	l.lower, l.upper = limitWindow{}, limitWindow{}
}

func (l *Limit) set(limit int) {
	if l.now.Swap(int32(limit)) != int32(limit) {
		l.scatter.previous, l.scatter.level = 0, limitLevel{}
	}
}

// close takes the slot that ends into account.
func (l *Limit) close(now time.Duration) {
	if l.known >= limitSample {
		l.best *= 1 + float64(now-l.bestAt)/float64(limitForget)
		if l.best == 0 || l.latency < l.best {
			l.best = l.latency
		}
		l.bestAt = now
	}
	switch l.mode {
	case limitSlowStart:
		return
	case limitUp, limitDown:
		if l.upper.valid() {
			l.search()
		}
		return
	case limitSteady:
	}
	if l.jumped() {
		return
	}
	if int64((now+l.clock)/l.length)/limitCycle == l.cycle || !l.upper.valid() {
		return
	}
	if !l.lower.valid() {
		return
	}
	l.lowerBefore.add(l.lower.seen)
	l.upperBefore.add(l.upper.seen)
	l.decide()
}

// gain returns what one percent more in flight brought in throughput, in
// percent, and its standard error.
func (l *Limit) gain(low, high limitLevel) (gain, stderr float64) {
	ratio := math.Log(high.limit() / low.limit())
	if !(ratio > 0.01) {
		return 0, math.Inf(1)
	}
	gain = 1 - math.Log(high.latency()/low.latency())/ratio
	return gain, math.Sqrt(l.scatter.variance*(1/low.stretches()+1/high.stretches())) / ratio
}

// decide moves the knee if the two levels tell to.
func (l *Limit) decide() {
	low, high := l.lowerBefore, l.upperBefore
	gain, stderr := l.gain(low, high)
	switch {
	case (low.answers < limitSample || high.answers < limitSample) && gain < limitGain+limitPlain*stderr:
		return
	case gain > limitGain+limitSureUp*stderr:
		if l.rising && gain > limitStrongGain && !l.slow(high.latency()) {
			l.research(limitUp)
			return
		}
		share := min(1, (gain-limitGain)/(1-limitGain)) * min(1, math.Sqrt(limitFair/l.knee))
		l.knee = min(l.ceiling(high.latency()), l.knee*math.Pow(high.limit()/low.limit(), share))
		l.rising, l.step = true, limitFirstStep
		if gain > limitStrongGain {
			l.floor, l.floorUntil = math.Round(low.limit())+0.5, l.until+limitHold*limitCycle*l.length
		}
	case gain < limitGain-limitSureDown*stderr:
		l.knee = max(1, l.knee*math.Exp(-l.step))
		if l.until < l.floorUntil {
			l.knee = max(l.knee, l.floor)
		}
		l.rising, l.step = false, min(limitLongestStep, limitStepGrowth*l.step)
	default:
		return
	}
	if !l.slow(high.latency()) {
		l.proven = l.knee
	}
	l.usual = 0 // at the new levels it is another
	l.lowerBefore, l.upperBefore = limitLevel{}, limitLevel{}
}

// slow reports whether a node that answers so late gets no more.
func (l *Limit) slow(latency float64) bool {
	return l.best != 0 && latency > limitSlowdown*l.best
}

// ceiling is how far the limit may rise at a latency.
func (l *Limit) ceiling(latency float64) float64 {
	if l.slow(latency) {
		return max(l.knee, l.proven)
	}
	return MaxLimit
}
