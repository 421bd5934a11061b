package balance

import (
	"testing"
	"time"
)

func TestNodeSurvivesAnOverlappingReload(t *testing.T) {
	var p Pool
	old, created := p.Acquire(sec, "a")
	if !created {
		t.Error("the first use of an address did not create its node")
	}
	again, created := p.Acquire(2*sec, "a") // the new configuration starts
	p.Release(3*sec, old, 0)                // the old one stops
	if again != old || created {
		t.Error("the new configuration got another node")
	}
	if third, _ := p.Acquire(4*sec, "a"); third != old {
		t.Error("the node was forgotten while in use")
	}
}

func TestNodeIsFreedWithItsLastUser(t *testing.T) {
	var p Pool
	n, _ := p.Acquire(sec, "a")
	p.Release(2*sec, n, 0)
	if len(p.nodes) != 0 {
		t.Error("an unused node is kept")
	}
	if _, created := p.Acquire(3*sec, "a"); !created {
		t.Error("an unused node came back")
	}
}

func TestLingeringNodeIsFoundAgainInTimeOnly(t *testing.T) {
	var p Pool
	n, _ := p.Acquire(sec, "a")
	p.Release(2*sec, n, time.Minute)
	if again, _ := p.Acquire(30*sec, "a"); again != n {
		t.Error("a lingering node was forgotten")
	}
	p.Release(40*sec, n, time.Minute)
	p.Acquire(200*sec, "b")
	if len(p.nodes) != 1 {
		t.Error("a node lingers for longer than asked")
	}
}

func TestReleasingTooOftenHarmsNobody(t *testing.T) {
	var p Pool
	n, _ := p.Acquire(sec, "a")
	p.Release(sec, n, 0)
	again, _ := p.Acquire(sec, "a")
	p.Release(sec, n, 0) // n was forgotten: this use is not its
	if third, _ := p.Acquire(sec, "a"); third != again {
		t.Error("a stale release took a node from its user")
	}
}
