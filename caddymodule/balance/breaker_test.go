package balance

import (
	"testing"
	"time"
)

var five = Breaker{Failures: 5}

// trip fails until the breaker opens and returns how often it took.
func trip(b *breaker, now time.Duration) int {
	for i := 1; i < 1000; i++ {
		if b.fail(now, now, five, 0.5) {
			return i
		}
	}
	return 0
}

func TestFiveFailuresInARowEject(t *testing.T) {
	var b breaker
	if n := trip(&b, sec); n != 5 {
		t.Errorf("ejected after %d failures, want 5", n)
	}
	if b.circuit(sec) != open || b.circuit(7*sec) != halfOpen {
		t.Errorf("circuit %v at once, %v after 6 s; want open, half open", b.circuit(sec), b.circuit(7*sec))
	}
}

func TestSuccessesBetweenFailuresOnlyHelpToAHalf(t *testing.T) {
	for _, test := range []struct {
		failures, successes int // repeated in this order
		want                bool
	}{{3, 5, false}, {1, 4, false}, {2, 1, true}, {4, 1, true}} {
		var b breaker
		ejected := false
		for i := range 200 {
			now := sec + time.Duration(i)*10*ms
			if i%(test.failures+test.successes) < test.failures {
				ejected = b.fail(now, now, five, 0.5) || ejected
			} else {
				b.count(now, true)
			}
		}
		if ejected != test.want {
			t.Errorf("%d failures for %d successes: ejected %v", test.failures, test.successes, ejected)
		}
	}
}

func TestOldFailuresAreForgotten(t *testing.T) {
	var b breaker
	for i := range 100 { // two failures in three, but 6 s apart
		now := sec + time.Duration(i)*6*sec
		if i%3 == 0 {
			b.count(now, true)
		} else if b.fail(now, now, five, 0.5) {
			t.Fatalf("ejected at request %d though 10 s never held 20 requests", i)
		}
	}
}

func TestEjectionDoublesAndIsForgiven(t *testing.T) {
	var b breaker
	now := sec
	trip(&b, now)
	for _, seconds := range []int{5, 10, 20, 40, 80, 160, 300, 300} {
		if got, want := time.Duration(b.until.Load())-now, time.Duration(seconds)*time.Second; got != want {
			t.Fatalf("ejected for %v, want %v", got, want)
		}
		now = time.Duration(b.until.Load())
		b.fail(now, now, five, 0.5) // the probe
	}
	now = time.Duration(b.until.Load())
	if !b.succeed(now, now) {
		t.Fatal("a successful probe did not end the ejection")
	}
	now += time.Hour
	trip(&b, now)
	if got := time.Duration(b.until.Load()) - now; got != 5*sec {
		t.Errorf("ejected for %v after an hour without failure, want 5 s", got)
	}
}

func TestJitterSpreadsProbes(t *testing.T) {
	for jitter, want := range map[float64]time.Duration{0: 4 * sec, 0.5: 5 * sec, 0.999999: 6 * sec} {
		var b breaker
		for !b.fail(sec, sec, five, jitter) {
		}
		if got := time.Duration(b.until.Load()) - sec; (got - want).Abs() > ms {
			t.Errorf("jitter %g: %v, want %v", jitter, got, want)
		}
	}
}

func TestStragglersDoNotDecide(t *testing.T) {
	var b breaker
	trip(&b, 10*sec)
	until := b.until.Load()
	later := 17 * sec
	if b.succeed(later, 9*sec) || b.until.Load() != until {
		t.Error("an answer to a request from before the ejection ended it")
	}
	if b.fail(later, 9*sec, five, 0.5) || b.until.Load() != until {
		t.Error("a failure of a request from before the ejection prolonged it")
	}
	b.succeed(later, later)
	for range 10 {
		if b.fail(18*sec, 9*sec, five, 0.5) {
			t.Fatal("requests from before the ejection ejected the recovered node")
		}
	}
}

func TestOffNeverEjects(t *testing.T) {
	var b breaker
	for range 1000 {
		if b.fail(sec, sec, Breaker{}, 0.5) {
			t.Fatal("ejected")
		}
	}
}

// A health check that says well again is reason enough to ask.
func TestRecoveredNodeIsProbedAtOnce(t *testing.T) {
	b, all := ejecting(), alike(2)
	eject(b, sec, all[0].Node)
	all[0].Node.Recover(2 * sec)
	if i, reason := pick(b, 2*sec, all); i != 0 || reason != Probe {
		t.Errorf("picked %d for %v, want a probe of the node that recovered", i, reason)
	}
	if _, known := all[0].Node.Latency(); known {
		t.Error("its failures still count as its latency")
	}
}
