package balance

import (
	"testing"
	"time"
)

func queueing(backlog time.Duration) *Balancer {
	return New(Options{Backlog: func() time.Duration { return backlog }})
}

func TestFullNodeGetsNothingMore(t *testing.T) {
	b, all := New(Options{}), alike(2)
	all[0].Limit, all[1].Limit = 2, 3
	attempts := make([]Attempt, 6)
	for i := range attempts {
		chosen, _ := b.Pick(sec, all, &attempts[i])
		if want := i < 5; want != (chosen >= 0) {
			t.Fatalf("pick %d of nodes that take 2 and 3: %d", i, chosen)
		}
	}
	if x, y := all[0].Node.InFlight(), all[1].Node.InFlight(); x != 2 || y != 3 {
		t.Errorf("%d and %d in flight", x, y)
	}
	attempts[0].End(sec)
	if chosen, _ := b.Pick(sec, all, &attempts[5]); chosen < 0 || all[chosen].Node != attempts[0].Node() {
		t.Errorf("picked %d when one had room again", chosen)
	}
}

// Two pools can't take a node's last place both.
func TestLimitIsTheNodesNotThePools(t *testing.T) {
	a, b, all := New(Options{}), New(Options{}), alike(1)
	all[0].Limit = 1
	var x, y Attempt
	i, _ := a.Pick(sec, all, &x)
	j, _ := b.Pick(sec, all, &y)
	if i != 0 || j != -1 {
		t.Errorf("picked %d and %d", i, j)
	}
}

func TestRequestWaitsForAFullNodeThatIsFaster(t *testing.T) {
	for _, test := range []struct {
		what       string
		fast, slow float64 // seconds
		limit      int     // of the fast node, of which one request at a time is within the knee
		backlog    time.Duration
		want       int // -1: wait
	}{
		{"as fast", 0.030, 0.030, 1, 0, 1},
		{"ten times slower", 0.030, 0.300, 1, 0, -1},
		{"ten times slower, but others wait already", 0.030, 0.300, 1, 400 * ms, 1},
		{"ten times slower, and the other has four", 0.030, 0.300, 4, 0, -1},
		{"three times slower, and the other has four", 0.030, 0.090, 4, 0, 1},
	} {
		b, all := queueing(test.backlog), alike(2)
		all[0].Node.latency.set(sec, test.fast)
		all[1].Node.latency.set(sec, test.slow)
		all[0].Limit = test.limit
		for range test.limit {
			if i, _ := New(Options{}).Pick(sec, all[:1], new(Attempt)); i != 0 {
				t.Fatal("the fast node has no room")
			}
		}
		var next Attempt
		if i, _ := b.Pick(sec, all, &next); i != test.want {
			t.Errorf("%s: picked %d, want %d", test.what, i, test.want)
		}
	}
}

// A node that fails at once always has room.
func TestRetryWaitsForAFullNodeInsteadOfGoingBack(t *testing.T) {
	for _, test := range []struct {
		what    string
		latency float64 // of the full node, seconds
		now     time.Duration
		want    int // -1: wait
	}{
		{"soon", 0.030, sec, -1},
		{"later than a failure counts for", 20, sec, 1},
		{"it hangs", 0.030, 10 * sec, 1},
	} {
		all := alike(2)
		all[0].Limit, all[1].Tries = 1, 1
		all[0].Node.latency.set(sec, test.latency)
		all[1].Node.latency.set(sec, 0.020)
		var busy, retry, other Attempt
		if i, _ := New(Options{}).Pick(sec, all[:1], &busy); i != 0 {
			t.Fatal("the node has no room")
		}
		if i, reason := queueing(0).Pick(test.now, all, &retry); i != test.want {
			t.Errorf("%s: picked %d, %s, want %d", test.what, i, reason, test.want)
		}
		if i, _ := New(Options{}).Pick(test.now, all, &other); i != 1 {
			t.Errorf("%s: picked %d where nobody can wait, want another try", test.what, i)
		}
	}
}

// A node that hangs is no room, however full the others are.
func TestHungNodeIsNoRoom(t *testing.T) {
	b, all := New(Options{}), alike(2)
	var hangs, busy, next Attempt
	b.Pick(sec, all[:1], &hangs)
	all[1].Limit = 1
	b.Pick(4*sec, all, &busy)
	if busy.Node() != all[1].Node {
		t.Fatal("picked the node that hangs")
	}
	if i, _ := b.Pick(4*sec, all, &next); i != -1 {
		t.Errorf("picked %d, want to wait for the node that is full", i)
	}
	if i, _ := b.Pick(4*sec, all[:1], &next); i != 0 {
		t.Errorf("picked %d with no other node, want to try", i)
	}
}
