package balance

import (
	"math"
	"testing"
	"time"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*want }

func TestAverageFollowsAnswers(t *testing.T) {
	var l latency
	l.observe(1*sec, 0.040)
	if got := l.estimate(1*sec, 0.5); got != 0.040 {
		t.Errorf("after one answer of 40 ms: %g", got)
	}
	for i := range 100 {
		l.observe(1*sec+time.Duration(i)*ms, 0.100)
	}
	if got := l.estimate(1100*ms, 0.5); !near(got, 0.100, 0.02) {
		t.Errorf("after 100 answers of 100 ms: %g; a busy node's average must forget within them", got)
	}
}

func TestUnansweredRequestMakesNodeSlowAtOnce(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	n := all[0].Node
	n.latency.set(10*sec, 0.030)
	looks := func(now time.Duration) float64 {
		e := b.Explain(now, all)[0]
		if silent := n.latency.silence(now) > 1; e.Hung != silent {
			t.Errorf("%v: hung %v", now, e.Hung)
		}
		return e.Score
	}
	var a Attempt
	b.Pick(10*sec, all, &a)
	if got := looks(10*sec + 100*ms); !near(got, 0.060, 1e-9) {
		t.Errorf("100 ms after a request to a node of 30 ms, the second would take %g s: that is chance", got)
	}
	if got := looks(12 * sec); got != 2 {
		t.Errorf("2 s after an unanswered request the node looks like %g s", got)
	}
	a.Pause(12 * sec) // now it is the client that lets wait
	if got := looks(15 * sec); got >= 2 {
		t.Errorf("a client's slow upload counts against the node: %g s", got)
	}
	a.Resume(15 * sec)
	if got := looks(16 * sec); got != 3 {
		t.Errorf("2 s before and 1 s after a pause: %g s", got)
	}
	a.End(16 * sec)
	if got := looks(16 * sec); !near(got, 3, 0.1) {
		t.Errorf("a client gave up after 3 s of silence, yet the node looks like %g s", got)
	}
}

// One long text among short ones is no sign of a node that hangs.
func TestNodeThatAnswersOthersIsNotSilent(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	all[0].Node.latency.set(10*sec, 0.030)
	var long Attempt
	b.Pick(10*sec, all, &long)
	for at := 10 * sec; at < 15*sec; at += 50 * ms {
		var short Attempt
		b.Pick(at, all, &short)
		if e := b.Explain(at, all)[0]; e.Hung || e.Factors.Latency > 0.1 {
			t.Fatalf("%v after a long request began, the node that answers others looks like %g s", at-10*sec, e.Factors.Latency)
		}
		short.Answer(at+30*ms, Served, 0)
		short.End(at + 30*ms)
	}
	if !b.Explain(17*sec, all)[0].Hung {
		t.Error("two seconds without any answer are no silence")
	}
}

// With 0 for "unknown" a cold node would win every pick, with a high guess none.
func TestColdNodeIsTakenForTheMedian(t *testing.T) {
	var l latency
	if got := l.estimate(sec, 0.070); got != 0.070 {
		t.Errorf("cold node: %g, want the median 0.07", got)
	}
	b, all := New(Options{}), candidates(5)
	all[2].Node.latency.forget()
	for _, e := range b.Explain(time.Second, all) {
		if e.Addr == all[2].Node.Addr() && !near(e.Factors.Latency, 0.031, 0.1) {
			t.Errorf("cold node among nodes of 30 to 34 ms is taken for %g s", e.Factors.Latency)
		}
	}
}

func TestIdleNodeReturnsToTheMedian(t *testing.T) {
	var l latency
	l.observe(1*sec, 8)
	for _, test := range []struct {
		idle time.Duration
		want float64
	}{{0, 8}, {6 * sec, 0.03 * math.Pow(8/0.03, 1/math.E)}, {25 * sec, 0.0327}, {10 * time.Minute, 0.03}} {
		if got := l.estimate(1*sec+test.idle, 0.03); !near(got, test.want, 0.02) {
			t.Errorf("idle for %v: %g s, want %g", test.idle, got, test.want)
		}
	}
}

func TestFailureCountsAsSlowAnswer(t *testing.T) {
	for _, test := range []struct {
		retryAfter time.Duration
		average    float64
		want       float64
	}{
		{0, 0.001, 5},
		{30 * sec, 0.001, 30},
		{time.Hour, 0.001, 60},
		{0, 12, 12},
	} {
		if got := failureSample(test.retryAfter, test.average); got != test.want {
			t.Errorf("Retry-After %v, average %g s: %g, want %g", test.retryAfter, test.average, got, test.want)
		}
	}
}

func TestNodeAtWorkAnswers(t *testing.T) {
	b, all := New(Options{}), candidates(1)
	n := all[0].Node
	if n.Answered(9*sec) || n.Working(10*sec) {
		t.Error("a node that nobody has asked")
	}
	var first, second Attempt
	b.Pick(10*sec, all, &first)
	first.Answer(12*sec, Served, 0) // 2 s are its way
	first.End(12 * sec)
	if !n.Answered(11*sec) || n.Answered(12*sec+ms) {
		t.Error("it has answered after 12 s")
	}
	if n.Working(13 * sec) {
		t.Error("it has nothing to answer")
	}
	b.Pick(20*sec, all, &second)
	if !n.Working(25 * sec) {
		t.Error("a request that may well take so long")
	}
	if n.Working(40 * sec) {
		t.Error("it has been silent for ten times what it takes")
	}
}
