package balance

import (
	"testing"
	"time"
)

func TestWarmthGrowsFromATenthToOne(t *testing.T) {
	for _, test := range []struct {
		since, now, slowStart time.Duration
		want                  float64
	}{
		{0, 100 * sec, 30 * sec, 1},
		{100 * sec, 100 * sec, 30 * sec, 0.1},
		{100 * sec, 115 * sec, 30 * sec, 0.5},
		{100 * sec, 130 * sec, 30 * sec, 1},
		{100 * sec, 100 * sec, -1, 1},
	} {
		if got := new(warmup).warmth(test.now, test.since, test.slowStart); !near(got, test.want, 0.001) {
			t.Errorf("%v after joining, slow start %v: %g, want %g", test.now-test.since, test.slowStart, got, test.want)
		}
	}
}

func TestJoiningNodeIsBrokenIn(t *testing.T) {
	b, all := New(Options{}), candidates(3)
	all[0].Node.Join(sec)
	count := func(from time.Duration) (n int) {
		for i := range 3000 {
			var a [3]Attempt // three at a time, so that load matters
			now := from + time.Duration(i)*ms
			for k := range a {
				if chosen, _ := b.Pick(now, all, &a[k]); chosen == 0 {
					n++
				}
			}
			for k := range a {
				a[k].Answer(now+ms/2, Alive, 0)
				a[k].End(now + ms/2)
			}
		}
		return n
	}
	early, late := count(sec+ms), count(40*sec)
	if early*2 > late || late < 2500 {
		t.Errorf("the node got %d of 9000 picks at first, %d when warm", early, late)
	}
}

// A node that was cut off answers as it always did, one whose process is new
// may not: time alone can't tell.
func TestNodeThatAnswersAsBeforeIsSparedShorter(t *testing.T) {
	for _, test := range []struct {
		what   string
		factor float64 // on its latency after the recovery
		want   time.Duration
	}{{"as fast as before", 1, 2 * sec}, {"five times slower", 5, 29 * sec}} {
		n, b := NewNode("a"), New(Options{})
		all := []Candidate{{Node: n, Weight: 1, Tier: 1}}
		serve := func(now time.Duration, latency float64) {
			var a Attempt
			b.Pick(now, all, &a)
			a.Answer(now+seconds(latency), Served, 0)
			a.End(now + seconds(latency))
		}
		for i := range 200 {
			serve(sec+time.Duration(i)*50*ms, 0.020)
		}
		n.Drain(20*sec, nil)
		n.Resume(30 * sec)
		now := 30 * sec
		for n.State(now, DefaultSlowStart) == SlowStart {
			now += 150 * ms
			serve(now, 0.020*test.factor)
		}
		if took := now - 30*sec; test.factor == 1 && took > test.want || test.factor > 1 && took < test.want {
			t.Errorf("%s: spared for %v", test.what, took)
		}
	}
}

// The same for a slow start that only the caller sees, after a health check.
func TestProofsCountForACallersSlowStart(t *testing.T) {
	n, b := NewNode("a"), New(Options{})
	all := []Candidate{{Node: n, Weight: 1, Tier: 1}}
	for i := range 400 {
		now := sec + time.Duration(i)*50*ms
		if i == 200 {
			n.Recover(now)
			all[0].WarmSince = now
		}
		var a Attempt
		b.Pick(now, all, &a)
		a.Answer(now+20*ms, Served, 0)
		a.End(now + 20*ms)
	}
	if got := n.Warmth(21*sec, all[0].WarmSince, DefaultSlowStart); got != 1 {
		t.Errorf("after 200 answers as fast as ever its share is %.2f", got)
	}
}

// The answer that ends an ejection says as much of the node as any other.
func TestProbeIsTheFirstProof(t *testing.T) {
	for _, test := range []struct {
		what    string
		latency time.Duration
		want    float64
	}{{"as fast as ever", 20 * ms, 1.0 / warmAnswers}, {"slow", 200 * ms, minWarmth}} {
		b, n := ejecting(), NewNode("a")
		all := []Candidate{{Node: n, Weight: 1, Tier: 1}}
		serve := func(now, latency time.Duration) {
			var a Attempt
			b.Pick(now, all, &a)
			a.Answer(now+latency, Served, 0)
			a.End(now + latency)
		}
		for i := range 20 {
			serve(sec+time.Duration(i)*50*ms, 20*ms)
		}
		eject(b, 3*sec, n)
		serve(20*sec, test.latency)
		if s, got := n.State(20*sec+test.latency, DefaultSlowStart), n.Warmth(20*sec+test.latency, 20*sec, DefaultSlowStart); s != SlowStart || got < test.want || got > test.want+0.02 {
			t.Errorf("%s: %v, its share is %.3f, want %.3f", test.what, s, got, test.want)
		}
	}
}

// Requests that a node took while it hung time out after it has recovered.
func TestWhatAHungNodeStillOwesIsNotHeldAgainstIt(t *testing.T) {
	b, all := ejecting(), alike(2)
	var old [2 * DefaultFailures]Attempt
	for i := range old {
		b.Pick(10*sec, all[:1], &old[i])
	}
	n := all[0].Node
	n.Recover(15 * sec)
	share := func(now time.Duration) (n int) {
		for range 1000 {
			if i, _ := pick(b, now, all); i == 0 {
				n++
			}
		}
		return n
	}
	for i := range old[:DefaultFailures] {
		old[i].Answer(16*sec, Failed, 0)
		old[i].End(16 * sec)
		old[DefaultFailures+i].End(16 * sec) // its hedge was faster
	}
	if s := n.State(16*sec, DefaultSlowStart); s != Up {
		t.Errorf("it is %v", s)
	}
	if got := share(16*sec + ms); got < 400 || got > 600 {
		t.Errorf("it has %d of 1000 picks, want half", got)
	}
	if n.Failures() != DefaultFailures {
		t.Errorf("%d failures are counted", n.Failures())
	}
}

// A node that is back proves itself by one request, then two, and so on: at
// once, where a share of a tenth left one of two nodes idle for a second.
func TestNodeThatIsBackHasAWindow(t *testing.T) {
	second := 0
	for seed := range uint64(100) {
		b, all := New(Options{Seed: seed}), alike(2)
		n, busy := all[0].Node, all[1].Node
		serve := func(now, latency time.Duration) {
			var a Attempt
			b.Pick(now, all[:1], &a)
			a.Answer(now+latency, Served, 0)
			a.End(now + latency)
		}
		for i := range 50 {
			serve(time.Duration(20+i)*50*ms, 20*ms)
		}
		for range 8 {
			b.Pick(5*sec, all[1:], new(Attempt))
		}
		n.Drain(5*sec, nil)
		n.Resume(9 * sec)
		// Busy is not silent.
		busy.latency.answered.Store(int64(9 * sec))
		var first, next Attempt
		if i, _ := b.Pick(9*sec, all, &first); i != 0 {
			t.Fatalf("seed %d: the idle node has not got the first request", seed)
		}
		if i, _ := b.Pick(9*sec, all, &next); i == 0 {
			second++
		}
		next.End(9 * sec)
		first.Answer(9*sec+20*ms, Served, 0)
		first.End(9*sec + 20*ms)
		if got := n.warmup.window(); got != 2 {
			t.Errorf("a window of %d after an answer as fast as ever", got)
		}
		serve(9*sec+50*ms, 100*ms)
		if got := n.warmup.window(); got != 2 {
			t.Errorf("a window of %d after a slow answer", got)
		}
	}
	if second > 25 {
		t.Errorf("in %d of 100 trials it got a second request before it had answered the first", second)
	}
	if got := NewNode("new").warmup.window(); got != 0 {
		t.Errorf("a window of %d for a node of which nothing is known", got)
	}
}
