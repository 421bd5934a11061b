package drill

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Class is what became of a request.
type Class int

// Answered is a 2xx that was read to its end. All others are lost: no
// connection, or one that broke; no answer in time; a 5xx; another status.
const (
	Answered Class = iota
	Connection
	Timeout
	ServerError
	OtherStatus
)

// Lost are the requests without a good answer, by what their client saw.
type Lost struct {
	Connection  int `json:"connection"`
	Timeout     int `json:"timeout"`
	ServerError int `json:"5xx"`
	OtherStatus int `json:"other_status"`
}

// Sum is how many they are.
func (l Lost) Sum() int { return l.Connection + l.Timeout + l.ServerError + l.OtherStatus }

func (l Lost) plus(m Lost) Lost {
	return Lost{l.Connection + m.Connection, l.Timeout + m.Timeout, l.ServerError + m.ServerError, l.OtherStatus + m.OtherStatus}
}

// String lists what is not zero: "2 connection, 1 5xx".
func (l Lost) String() string {
	var parts []string
	for _, c := range []struct {
		n    int
		name string
	}{{l.Connection, "connection"}, {l.Timeout, "timeout"}, {l.ServerError, "5xx"}, {l.OtherStatus, "other status"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.name))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "0")
}

// Tally counts the requests that were due in one part of a drill.
type Tally struct {
	Lost     Lost
	answered []time.Duration // latencies, from when the request was due
}

func (t *Tally) add(c Class, took time.Duration) {
	switch c {
	case Answered:
		t.answered = append(t.answered, took)
	case Connection:
		t.Lost.Connection++
	case Timeout:
		t.Lost.Timeout++
	case ServerError:
		t.Lost.ServerError++
	case OtherStatus:
		t.Lost.OtherStatus++
	}
}

// Sent is how many requests ended, in either way.
func (t *Tally) Sent() int { return len(t.answered) + t.Lost.Sum() }

// Quantile returns the latency, from when a request was due to the end of its
// answer, that the share q of the answered ones did not exceed (nearest rank);
// ok is false if none was answered.
func (t *Tally) Quantile(q float64) (latency time.Duration, ok bool) {
	n := len(t.answered)
	if n == 0 {
		return 0, false
	}
	sorted := slices.Sorted(slices.Values(t.answered))
	return sorted[min(n-1, max(0, int(math.Ceil(q*float64(n)))-1))], true
}

// Result is what taking one node out and putting it back showed.
type Result struct {
	Address string
	// Share is the part of all picks that the node had in the baseline, and
	// ShareBack from when it was put back; 0 to 1.
	Share, ShareBack float64
	// Out are the requests due from the order until it was taken back, Back
	// those until it served again.
	Out, Back Tally
	// Switch is from the drain order to the last request that the gateway gave
	// the node, at most: the time when the order was answered, if none came
	// after that. Idle is from the order to when the node was seen without a
	// request, and Return from the resume order to when it served out of slow
	// start. Each is nil if that was not seen.
	Switch, Idle, Return *time.Duration
	Notes                []string
	// StillDrained is true if the node could not be put back.
	StillDrained bool
}

// Sent is how many requests the node's part of the drill sent.
func (r *Result) Sent() int { return r.Out.Sent() + r.Back.Sent() }

// Lost are those of them without a good answer.
func (r *Result) Lost() Lost { return r.Out.Lost.plus(r.Back.Lost) }

// Report is a whole drill.
type Report struct {
	Baseline Tally // with all nodes in service
	Nodes    []*Result
	Skipped  []string // nodes that were not drilled, each with the reason
}

// Sent is how many requests the drill sent.
func (r *Report) Sent() int {
	n := r.Baseline.Sent()
	for _, node := range r.Nodes {
		n += node.Sent()
	}
	return n
}

// Lost are those of them without a good answer.
func (r *Report) Lost() Lost {
	l := r.Baseline.Lost
	for _, node := range r.Nodes {
		l = l.plus(node.Lost())
	}
	return l
}

// Verdict is the report in a sentence.
func (r *Report) Verdict() string {
	if len(r.Nodes) == 0 {
		return "no node was failed over"
	}
	sent, over := r.Sent(), fmt.Sprintf("%d nodes failed over", len(r.Nodes))
	if len(r.Nodes) == 1 {
		over = "1 node failed over"
	}
	if l := r.Lost(); l.Sum() > 0 {
		return fmt.Sprintf("LOST %d of %d requests (%s), %s", l.Sum(), sent, l, over)
	}
	var slowest time.Duration
	for _, node := range r.Nodes {
		if node.Switch != nil {
			slowest = max(slowest, *node.Switch)
		}
	}
	return fmt.Sprintf("nothing lost of %d requests, %s, the slowest switch within %v", sent, over, slowest.Round(100*time.Microsecond))
}
