//go:build unix

package failover

import (
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// One node after the other dies, hangs, and fails at once, always with others
// left that can answer, even where the machine that plays them all is slow.
func TestNothingIsLostWhileNodesFail(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 4)
	g := startCaddy(t, nodes, "gpu")
	l := startLoad(t, g, 1)

	// back waits until the node answers again and notes how long that took.
	back := func(n *simnode.Process, was int) {
		t.Helper()
		begin := time.Now()
		eventually(t, "the node to be used again", func() bool { return state(t, n).Answered > was })
		t.Logf("used again after %v", time.Since(begin).Round(100*time.Millisecond))
	}

	l.at(2 * time.Second)
	if err := nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	l.at(5 * time.Second)
	if err := nodes[0].Start("-cold=2s"); err != nil {
		t.Fatal(err)
	}
	back(nodes[0], 0)

	set(t, nodes[1], `{"mode":"hang"}`)
	time.Sleep(3 * time.Second) // its first requests have been answered by others
	hung := state(t, nodes[1]).Received
	time.Sleep(2 * time.Second)
	now := state(t, nodes[1])
	if more := now.Received - hung; more > 5 {
		t.Errorf("%d requests within 2 s to a node that had hung for 3 s", more)
	}
	set(t, nodes[1], `{"mode":"ok"}`)
	back(nodes[1], now.Answered)

	before := state(t, nodes[2])
	set(t, nodes[2], `{"mode":"fail"}`)
	time.Sleep(4 * time.Second)
	now = state(t, nodes[2])
	if drawn := now.Received - before.Received; drawn > 20 {
		t.Errorf("a node that fails at once drew %d requests in 4 s", drawn)
	}
	set(t, nodes[2], `{"mode":"ok"}`)
	back(nodes[2], now.Answered)

	r := l.end()
	nothingLost(t, r)
	if hedges := view(t, g, nodes[0]).Picks["hedge"] + view(t, g, nodes[2]).Picks["hedge"] + view(t, g, nodes[3]).Picks["hedge"]; hedges == 0 {
		t.Error("no other node was asked while one hung")
	}
	for _, n := range nodes {
		if v := view(t, g, n); v.InFlight != 0 {
			t.Errorf("%s has %d requests in flight after the last", n.Address, v.InFlight)
		}
	}
	t.Logf("%d requests, %d of them took 2 s or more; p99 %v", len(r.Records), r.Waited(2*time.Second), r.Percentile(99))
}

// An answer that breaks off after its head has reached the client cannot be
// repeated; one that breaks off before can.
func TestNodeThatBreaksOffIsEjected(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t, 3)
	g := startCaddy(t, nodes, "gpu")
	l := startLoad(t, g, 2)
	set(t, nodes[0], `{"mode":"reset"}`)
	eventually(t, "the node to be ejected", func() bool { return view(t, g, nodes[0]).Ejections > 0 })
	received := state(t, nodes[0]).Received
	time.Sleep(3 * time.Second)
	if more := state(t, nodes[0]).Received - received; more > 5 {
		t.Errorf("an ejected node got %d requests within 3 s", more)
	}
	if r := l.end(); r.Failed() > 10 {
		t.Errorf("%d requests lost before the node was ejected", r.Failed())
	}
}
