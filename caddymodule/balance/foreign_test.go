package balance

import (
	"fmt"
	"testing"
	"time"
)

// What telemetry of GPUs buys, and that it never costs, in the simulator: a
// co-tenant comes to and leaves one of three GPUs. Utilisation is as NVML
// tells it: the share of the last second with anything running, in percents.

// tenant is a co-tenant that takes a share of a GPU every other time.
func tenant(share float64, every time.Duration) func(time.Duration) float64 {
	return func(now time.Duration) float64 {
		if now/every%2 == 1 {
			return share
		}
		return 0
	}
}

func withTenant(share float64, every time.Duration) []simNode {
	nodes := make([]simNode, 3)
	for i := range nodes {
		nodes[i] = simNode{slots: 2, service: 20 * ms}
	}
	nodes[0].cotenant = tenant(share, every)
	return nodes
}

func each(interval time.Duration) simTelemetry {
	return simTelemetry{interval: interval, delay: 100 * ms}
}

// always falsifies the reports of one node.
func always(node int, u float64) simTelemetry {
	tel := each(sec)
	tel.falsify = func(_ time.Duration, i int, truth float64) float64 {
		if i == node {
			return u
		}
		return truth
	}
	return tel
}

func TestCotenantCostsLittleMoreThanTheBound(t *testing.T) {
	for _, gateways := range []int{1, 4} {
		s := scenario{nodes: withTenant(0.85, 20*sec), rate: 150, length: 2 * time.Minute, gateways: gateways, telemetry: each(sec)}
		p99 := median(s, newGPU, 20*sec, s.length)
		better(t, fmt.Sprintf("p99 with %d gateways to the omniscient scheduler", gateways), p99, median(s, newOmniscient, 20*sec, s.length), 1.3)
		better(t, "p99 to least_conn", p99, median(s, newLeastConn, 20*sec, s.length), 0.4)
	}
}

// Each gateway has to learn of a co-tenant by a slow answer of its own, unless
// it is told. The more a node is used, the more requests can meet who comes:
// what counts is how many do for each that the node gets in a second.
func TestFreshTelemetrySparesSlowAnswers(t *testing.T) {
	met := func(tel simTelemetry) float64 {
		met, used := 0, 0
		for seed := range uint64(7) {
			s := scenario{nodes: withTenant(0.85, 80*sec), rate: 30, length: 16 * time.Minute, gateways: 4, telemetry: tel, seed: seed + 1}
			for _, p := range simulate(s, newGPU).picks {
				switch since := p.at % (160 * sec); {
				case p.node != 0:
				case since >= 80*sec && since < 85*sec:
					met++
				case since >= 60*sec && since < 80*sec:
					used++
				}
			}
		}
		return 20 * float64(met) / float64(used)
	}
	without, with := met(simTelemetry{}), met(each(sec))
	t.Logf("requests sent beside the co-tenant in its first 5 s, in seconds of the node's rate before: %.2f without telemetry, %.2f with", without, with)
	if with > 0.9*without {
		t.Errorf("%.2f seconds' requests met the co-tenant, %.2f without telemetry", with, without)
	}
}

func TestTelemetryIsNeverWorseThanNone(t *testing.T) {
	none := func(float64) float64 { return 1 }
	for _, load := range []struct {
		what     string
		rate     float64
		gateways int
		slowdown func(share float64) float64
	}{
		{"one gateway", 150, 1, nil},
		{"four gateways", 150, 4, nil},
		{"a co-tenant that slows nothing down", 150, 1, none},
	} {
		s := scenario{nodes: withTenant(0.85, 20*sec), rate: load.rate, length: 2 * time.Minute, gateways: load.gateways}
		s.nodes[0].contention = load.slowdown
		without := median(s, newGPU, 20*sec, s.length)
		for _, tel := range []struct {
			what string
			simTelemetry
		}{
			{"each second", each(sec)},
			{"each 3 s", each(3 * sec)},
			{"each 15 s", each(15 * sec)},
			{"that says 0 of the busy GPU", always(0, 0)},
			{"that says 1 of the busy GPU", always(0, 1)},
			{"that says 1 of a free GPU", always(1, 1)},
		} {
			s.telemetry = tel.simTelemetry
			worst := 1.07
			if racing { // one seed
				worst = 1.2
			}
			better(t, load.what+": p99 with telemetry "+tel.what+" to without", median(s, newGPU, 20*sec, s.length), without, worst)
		}
	}
}

// Telemetry that stops is neutral, not a verdict.
func TestSilentTelemetryIsNeutral(t *testing.T) {
	s := scenario{nodes: withTenant(0, time.Hour), rate: 150, length: 3 * time.Minute, telemetry: each(sec), seed: 7}
	s.telemetry.falsify = func(now time.Duration, node int, truth float64) float64 {
		switch {
		case node != 0 || now < 30*sec:
			return truth
		case now < 35*sec:
			return 1
		default:
			return -1 // its exporter has died
		}
	}
	if share := simulate(s, newGPU).share(0, time.Minute, s.length); share < 0.27 {
		t.Errorf("long after its exporter died, having said 100 %%, the node gets %.0f %% of what a third node should get", 300*share)
	}
}

// Load moves away above shed_at, whatever the node's answers say, and stays
// below it.
func TestLoadShedsAboveShedAt(t *testing.T) {
	share := func(u float64) float64 {
		s := scenario{nodes: equal(2), rate: 60, length: time.Minute, telemetry: always(0, u), seed: 7}
		return simulate(s, newGPU).share(0, 10*sec, s.length)
	}
	if got := share(0.95); got > 0.33 {
		t.Errorf("a node whose GPU others keep 95 %% busy gets %.0f %%", 100*got)
	}
	if got := share(0.70); got < 0.4 {
		t.Errorf("a node at 70 %% gets %.0f %%", 100*got)
	}
}

// Own load is no reason to leave a node: shares would swing with each sample.
func TestOwnLoadDoesNotMakeSharesSwing(t *testing.T) {
	for _, gateways := range []int{1, 4} {
		s := scenario{nodes: equal(3), rate: 220, length: 5 * time.Minute, gateways: gateways, telemetry: each(sec), seed: 7}
		with, least, most := simulate(s, newGPU), 1.0, 0.0
		for from := 10 * sec; from < s.length; from += 5 * sec {
			got := with.share(0, from, from+5*sec)
			least, most = min(least, got), max(most, got)
		}
		t.Logf("%d gateways: the share of one of three nodes in 5 s is from %.0f to %.0f %%", gateways, 100*least, 100*most)
		if least < 0.15 || most > 0.55 {
			t.Errorf("%d gateways: the share of one of three nodes swings from %.0f to %.0f %%", gateways, 100*least, 100*most)
		}
		s.telemetry = simTelemetry{}
		better(t, "p99 to without telemetry", with.percentile(99, 10*sec, s.length), simulate(s, newGPU).percentile(99, 10*sec, s.length), 1.1)
	}
}

func TestForeignShareIsWhatIsNotOwn(t *testing.T) {
	for _, test := range []struct{ own, others float64 }{{0, 0}, {0, 0.6}, {0.5, 0}, {0.5, 0.85}, {0.8, 0.5}} {
		n := NewNode("a")
		for i := range 20 {
			at := sec + time.Duration(i)*sec
			n.history.advance(at, 0)
			n.history.advance(at+seconds(test.own), 1)
			n.history.advance(at+sec, 0)
			n.Hear(at+sec, report(at+sec, Utilization, test.own+(1-test.own)*test.others))
		}
		if got := load(&n.told.foreign); got < test.others-0.01 || got > test.others+0.01 {
			t.Errorf("own %g, others %g: foreign share %g", test.own, test.others, got)
		}
	}
}

// A node that others leave is used again at once, and not more than before.
func TestNodeThatOthersLeaveIsUsedAgain(t *testing.T) {
	for _, gateways := range []int{1, 4} {
		s := scenario{nodes: withTenant(0.85, time.Minute), rate: 100, length: 3 * time.Minute, gateways: gateways, telemetry: each(sec), seed: 7}
		r := simulate(s, newGPU)
		before, beside, back := r.share(0, 20*sec, time.Minute), r.share(0, time.Minute+3*sec, 2*time.Minute), r.share(0, 2*time.Minute+5*sec, 2*time.Minute+35*sec)
		t.Logf("%d gateways: share %.0f %% before, %.1f %% beside the co-tenant, %.0f %% from 5 s after it left", gateways, 100*before, 100*beside, 100*back)
		if beside > 0.03 || back < 0.2 || back > 0.5 {
			t.Errorf("%d gateways: the node's share was %.0f %%, %.1f %% beside the co-tenant, and %.0f %% from 5 s after it left", gateways, 100*before, 100*beside, 100*back)
		}
		better(t, "p99 when it is back to p99 before", r.percentile(99, 2*time.Minute, 2*time.Minute+30*sec), r.percentile(99, 10*sec, time.Minute), 1.3)
	}
}
