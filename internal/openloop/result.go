package openloop

import (
	"fmt"
	"iter"
	"slices"
	"time"
)

// Outcome is what became of a request.
type Outcome string

const (
	// OK is a complete answer, status 200, to this very request.
	OK Outcome = "ok"
	// BadStatus is a complete answer with another status.
	BadStatus Outcome = "status"
	// WrongAnswer is an answer to another request, or none that can be read.
	WrongAnswer Outcome = "wrong answer"
	// TimedOut means that the client gave up.
	TimedOut Outcome = "timeout"
	// Refused means that nobody listened.
	Refused Outcome = "refused"
	// Dropped means that the connection ended before the answer did.
	Dropped Outcome = "dropped"
	// Broken is any other failure.
	Broken Outcome = "broken"
	// Overrun means that it was not sent, for too many were under way.
	Overrun Outcome = "overrun"
)

// Record is one request.
type Record struct {
	// Intended is when it should have been sent, since the begin.
	Intended time.Duration
	// Late is how much later it was sent: the noise of this machine.
	Late time.Duration
	// Latency is from the intended time to the end of the answer, or to the
	// failure.
	Latency time.Duration
	Outcome Outcome
	Status  int    // 0 without an answer
	Node    string // who answered, if it said so
	Error   string // empty for OK
	// Dialed is when making its connection began, since the begin; before it was
	// sent where the connection had been used before. 0 without a connection, and
	// over TLS.
	Dialed time.Duration
	// First is the attempt before, nil unless it failed and there was another.
	First *Record
}

// Result is what a run recorded.
type Result struct {
	Begin   time.Time
	Records []Record // in the order of their intended times
}

// Between returns the part that was intended from begin until before end.
func (r *Result) Between(begin, end time.Duration) *Result {
	at := func(rec Record, t time.Duration) int {
		if rec.Intended < t {
			return -1
		}
		return 1
	}
	i, _ := slices.BinarySearchFunc(r.Records, begin, at)
	j, _ := slices.BinarySearchFunc(r.Records, end, at)
	return &Result{Begin: r.Begin, Records: r.Records[i:max(i, j)]}
}

// EachSecond yields the seconds from begin until before end, in order, each as
// Between does.
func (r *Result) EachSecond(begin, end time.Duration) iter.Seq[*Result] {
	return func(yield func(*Result) bool) {
		for at := begin; at < end; at += time.Second {
			if !yield(r.Between(at, min(at+time.Second, end))) {
				return
			}
		}
	}
}

// Count returns how many requests f holds for.
func (r *Result) Count(f func(*Record) bool) int {
	n := 0
	for i := range r.Records {
		if f(&r.Records[i]) {
			n++
		}
	}
	return n
}

// Failed counts the requests without a good answer.
func (r *Result) Failed() int {
	return r.Count(func(rec *Record) bool { return rec.Outcome != OK })
}

// FailedFirst counts the requests whose first attempt had no good answer: those
// that clients without a retry would have lost.
func (r *Result) FailedFirst() int {
	return r.Count(func(rec *Record) bool { return rec.First != nil || rec.Outcome != OK })
}

// Misses counts the requests without a good answer within slo.
func (r *Result) Misses(slo time.Duration) int {
	return r.Count(func(rec *Record) bool { return !rec.good(slo) })
}

// Waited counts the requests that took at least d, whatever became of them.
func (r *Result) Waited(d time.Duration) int {
	return r.Count(func(rec *Record) bool { return rec.Latency >= d })
}

func (rec *Record) good(slo time.Duration) bool { return rec.Outcome == OK && rec.Latency <= slo }

// Percentile returns the smallest latency that p percent of all requests do not
// exceed (nearest rank). A request that failed counts with the time that it
// took to fail, but with no less than Failure.
func (r *Result) Percentile(p float64) time.Duration {
	if len(r.Records) == 0 {
		return 0
	}
	latencies := make([]time.Duration, 0, len(r.Records))
	for i := range r.Records {
		rec := &r.Records[i]
		l := rec.Latency
		if rec.Outcome != OK {
			l = max(l, Failure)
		}
		latencies = append(latencies, l)
	}
	return nearestRank(latencies, p)
}

// Failure is the latency that a failed request stands for at least: failing
// fast must not look good.
const Failure = 10 * time.Second

// Lateness returns a percentile of how late requests were sent.
func (r *Result) Lateness(p float64) time.Duration {
	late := make([]time.Duration, 0, len(r.Records))
	for i := range r.Records {
		if r.Records[i].Outcome != Overrun {
			late = append(late, r.Records[i].Late)
		}
	}
	if len(late) == 0 {
		return 0
	}
	return nearestRank(late, p)
}

func nearestRank(values []time.Duration, p float64) time.Duration {
	slices.Sort(values)
	n := float64(len(values))
	rank := int(p*n/100 + 1 - 1e-9)
	return values[min(len(values), max(rank, 1))-1]
}

// Second is what became of the requests intended within one second.
type Second struct{ Sent, Good int }

// Seconds counts, for each second since the begin, the requests and those with
// a good answer within slo.
func (r *Result) Seconds(slo time.Duration) []Second {
	var seconds []Second
	for i := range r.Records {
		rec := &r.Records[i]
		s := int(rec.Intended / time.Second)
		for len(seconds) <= s {
			seconds = append(seconds, Second{})
		}
		seconds[s].Sent++
		if rec.good(slo) {
			seconds[s].Good++
		}
	}
	return seconds
}

// Share returns which part of the answers each node gave.
func (r *Result) Share() map[string]float64 {
	counts := make(map[string]int)
	total := 0
	for i := range r.Records {
		if node := r.Records[i].Node; node != "" {
			counts[node]++
			total++
		}
	}
	shares := make(map[string]float64, len(counts))
	for node, n := range counts {
		shares[node] = float64(n) / float64(total)
	}
	return shares
}

// Failures tells what went wrong, one line for each kind with its number and an
// example.
func (r *Result) Failures() []string {
	counts, examples := make(map[Outcome]int), make(map[Outcome]string)
	for i := range r.Records {
		if rec := &r.Records[i]; rec.Outcome != OK {
			if counts[rec.Outcome]++; counts[rec.Outcome] == 1 {
				examples[rec.Outcome] = fmt.Sprintf("at %.2fs after %.0f ms: %s", rec.Intended.Seconds(), float64(rec.Latency)/1e6, rec.Error)
			}
		}
	}
	lines := make([]string, 0, len(counts))
	for outcome, n := range counts {
		lines = append(lines, fmt.Sprintf("%d × %s, the first %s", n, outcome, examples[outcome]))
	}
	slices.Sort(lines)
	return lines
}
