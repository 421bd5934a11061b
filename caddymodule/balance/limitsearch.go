package balance

import "math"

// How a Limit looks for a knee that lies far from where it was believed.

// jumped begins a search if the node has changed beyond what the limit did.
func (l *Limit) jumped() bool {
	seen, spare := l.recent, l.spare
	l.recent, l.spare = limitLevel{}, 0
	if seen.answers < limitSample || seen.answers < 4*spare {
		return false
	}
	if l.usual == 0 {
		l.usual = seen.latency()
		return false
	}
	change := math.Log(seen.latency() / l.usual)
	if math.Abs(change) < math.Log(limitJump)+2*math.Sqrt(l.scatter.variance/seen.stretches()) {
		return false
	}
	if change < 0 {
		l.research(limitUp)
	} else {
		l.research(limitDown)
	}
	return true
}

// research begins a search at the knee as it was believed.
func (l *Limit) research(mode limitMode) {
	l.mode, l.back, l.before, l.least, l.grown = mode, l.knee, limitLevel{}, 1, true
	l.floorUntil = 0
	l.reset()
}

// search doubles or halves the limit from slot to slot for as long as that is
// worth it.
func (l *Limit) search() {
	seen := l.upper.seen
	if seen.answers < max(limitSample, 2*float64(l.upper.limit)) {
		return
	}
	if l.before.answers > 0 {
		low, high := l.before, seen
		if l.mode == limitDown {
			low, high = high, low
		}
		gain, stderr := l.gain(low, high)
		if math.Abs(gain-limitGain) < stderr && seen.stretches() < 16 {
			return // not sure yet
		}
		worth := gain > limitGain
		switch {
		case l.mode == limitUp && worth && !l.slow(seen.latency()):
			l.grown = true
		case l.mode == limitDown && !worth:
		case l.mode == limitUp && !l.grown && l.back > limitStart:
			l.mode, l.knee = limitDown, l.back
			seen = l.before
		default:
			l.settle(l.back)
			return
		}
	}
	l.before, l.back = seen, l.knee
	if l.mode == limitUp {
		l.knee = min(MaxLimit, 2*l.knee)
	} else {
		l.knee = math.Floor(l.knee / 2)
	}
	if l.knee < l.least || l.knee == l.back {
		l.settle(l.back)
	}
}

// settle ends a search.
func (l *Limit) settle(knee float64) {
	l.knee, l.mode = knee, limitSteady
	l.before, l.lowerBefore, l.upperBefore = limitLevel{}, limitLevel{}, limitLevel{}
	l.reset()
	l.step, l.usual, l.rising, l.floorUntil = limitLongestStep, 0, false, 0
}
