package balance

import "time"

// What a Limit measures.

// limitLevel sums up answers at one limit.
type limitLevel struct{ answers, took, inFlight float64 }

func (l *limitLevel) add(o limitLevel) {
	l.answers += o.answers
	l.took += o.took
	l.inFlight += o.inFlight
}

func (l *limitLevel) latency() float64 { return l.took / l.answers }
func (l *limitLevel) limit() float64   { return l.inFlight / l.answers }

// stretches is for how many latencies the node was watched: in each it answers
// as many requests as it has in flight.
func (l *limitLevel) stretches() float64 { return l.answers / l.limit() }

// limitWindow is a stretch of time with one limit: requests that begin in it
// and meet the limit are measured, whenever they end.
type limitWindow struct {
	from, to time.Duration
	limit    int
	met      time.Duration // when the limit was first met
	seen     limitLevel
	free     float64 // requests that began since then and found room to spare
	failed   float64
}

func (w *limitWindow) observe(began time.Duration, took float64, inFlight int, ok bool) {
	switch {
	case began < w.from || began >= w.to:
	case !ok:
		w.failed++
	case inFlight >= w.limit:
		if w.seen.answers == 0 {
			w.met = began
		}
		w.seen.add(limitLevel{1, took, float64(inFlight)})
	case w.seen.answers > 0 && began > w.met:
		w.free++
	}
}

// valid reports whether the throughput was the limit's doing.
func (w *limitWindow) valid() bool {
	return w.seen.answers > 4*w.free && w.seen.answers > 8*w.failed
}

// limitScatter is the variance of the mean latencies of stretches one latency
// long, relative to their mean: what chance there is in a measurement, when
// requests that shared a batch or a queue are not taken for independent.
type limitScatter struct {
	variance float64
	level    limitLevel
	until    time.Duration
	previous float64
}

func (s *limitScatter) observe(now time.Duration, took, latency float64) {
	if now >= s.until {
		if s.level.answers > 0 {
			mean := s.level.latency()
			if s.previous > 0 {
				d := (mean - s.previous) / (mean + s.previous)
				s.variance += (2*d*d - s.variance) / 32
			}
			s.previous = mean
		}
		s.level = limitLevel{}
		s.until = now + seconds(latency)
	}
	s.level.answers++
	s.level.took += took
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
