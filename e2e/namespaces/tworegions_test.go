//go:build linux

package namespaces

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// region is a gateway and two nodes of examples/two-regions.
type region struct {
	name    string
	net     string // first two bytes of its addresses
	gateway *host
	nodes   [2]*host
	running [2]*process
}

// newRegion starts a region whose nodes are so far away from everybody.
func newRegion(t *testing.T, name, net string, distance time.Duration) *region {
	t.Helper()
	w := newWire(t, name, net+".0.254/16")
	r := &region{name: name, net: net, gateway: w.host(name+"-gateway", net+".0.10/16")}
	for i := range r.nodes {
		r.nodes[i] = w.host(fmt.Sprintf("%s-%d", name, i+1), fmt.Sprintf("%s.0.%d/16", net, i+1))
		r.running[i] = r.nodes[i].node(r.nodes[i].delay(distance)...)
	}
	r.gateway.caddy(example(t, "two-regions", name, "Caddyfile"))
	return r
}

// delay keeps everything from a host back, and returns flags that make a node do
// so where the kernel can't.
func (h *host) delay(distance time.Duration) []string {
	h.t.Helper()
	if distance == 0 {
		return nil
	}
	err := h.command("tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", fmt.Sprintf("%dms", distance.Milliseconds())).Run()
	if err == nil {
		return nil
	}
	h.t.Logf("%s: this kernel has no netem, so the node itself waits %v", h.name, distance)
	return []string{fmt.Sprintf("-distance=%v", distance)}
}

func (r *region) address() string { return r.net + ".0.10" }

// unplug pulls the nodes' cables; plug puts them back.
func (r *region) unplug() {
	for _, n := range r.nodes {
		n.unplug()
	}
}

func (r *region) plug() {
	for _, n := range r.nodes {
		n.plug()
	}
}

// restart lets the nodes begin again, cold, as after a power cut.
func (r *region) restart() {
	for i, n := range r.nodes {
		r.running[i].kill()
		r.running[i] = n.node("-cold=3s")
	}
}

// works tells whether both nodes answer now.
func (r *region) works() bool {
	for i := range r.nodes {
		if !answers(fmt.Sprintf("http://%s.0.%d:8081/health", r.net, i+1)) {
			return false
		}
	}
	return true
}

// waiting watches how many requests wait at a region's nodes, beyond those that
// they work on, until it is stopped. It returns the most there were at one.
func (r *region) waiting() (stop func() int) {
	done, most := make(chan struct{}), make(chan int)
	go func() {
		m := 0
		for {
			select {
			case <-done:
				most <- m
				return
			case <-time.After(20 * time.Millisecond):
			}
			for i := range r.nodes {
				if s, err := nodeState(fmt.Sprintf("%s.0.%d", r.net, i+1)); err == nil {
					m = max(m, s.Waiting)
				}
			}
		}
	}()
	return func() int {
		close(done)
		return <-most
	}
}

// usedAgain waits until both nodes answer users.
func (r *region) usedAgain(t *testing.T) {
	t.Helper()
	for i, n := range r.nodes {
		address := fmt.Sprintf("%s.0.%d", r.net, i+1)
		var before simnode.State
		eventually(t, n.name+" to be reachable", func() (ok bool) {
			var err error
			before, err = nodeState(address)
			return err == nil
		})
		eventually(t, n.name+" to be used again", func() bool {
			now, err := nodeState(address)
			return err == nil && now.Answered > before.Answered+10
		})
	}
}

// Users of two regions, three quarters of them of east's gateway, while east
// loses a node, all nodes, and everything.
func TestTwoRegionsCarryEachOther(t *testing.T) {
	t.Parallel()
	east, west := newRegion(t, "east", "10.1", 0), newRegion(t, "west", "10.2", 30*time.Millisecond)
	eventually(t, "both regions", func() bool {
		return reachable(east.address()) && reachable(west.address()) && east.works() && west.works()
	})
	const rate = 60
	begin := time.Now()
	ofEast := startClients(t, begin, 3, rate, east.address(), west.address())
	ofWest := startClients(t, begin, 4, rate/3, west.address(), east.address())

	var phases []window
	phase := func(what string, d time.Duration, act func()) {
		t.Helper()
		from := ofEast.now()
		act()
		time.Sleep(d)
		phases = append(phases, window{what: what, from: from, to: ofEast.now()})
	}
	phase("before", 4*time.Second, func() {})
	phase("one node of east is cut off", 8*time.Second, east.nodes[1].unplug)
	phase("it is back", 2*time.Second, func() {
		east.nodes[1].plug()
		east.usedAgain(t)
	})
	phase("both nodes of east are cut off", 8*time.Second, east.unplug)
	var most int
	phase("they are back, cold", 0, func() {
		east.restart()
		east.plug()
		stop := east.waiting()
		east.usedAgain(t)
		time.Sleep(6 * time.Second) // twice as long as a node is cold
		most = stop()
	})
	phase("all of east is cut off", 6*time.Second, func() {
		east.unplug()
		east.gateway.unplug()
	})
	phase("it is back", 3*time.Second, func() {
		east.plug()
		east.gateway.plug()
		east.usedAgain(t)
	})

	e, w := ofEast.end(), ofWest.end()
	report(t, "users of east", e, phases)
	report(t, "users of west", w, phases)
	t.Logf("at most %d requests waited at a cold node", most)
	// Both cold nodes together answer 32 a second. Had they got all requests at
	// once, each would have had 40 waiting after three seconds.
	if most > 20 {
		t.Errorf("%d requests waited at a node that had just come back", most)
	}
	if n := w.FailedFirst(); n > 0 {
		t.Errorf("users of west lost %d requests:\n%v", n, w.Failures())
	}
	if n := e.Failed(); n > 0 {
		t.Errorf("users of east lost %d requests in spite of a retry:\n%v", n, e.Failures())
	}
	away := window{from: phases[5].from, to: phases[6].to} // when the gateway was, or was just back
	for i := range e.Records {
		if failed := failedAttempt(&e.Records[i]); failed != nil && !away.has(failed) && !away.outlived(failed) {
			t.Errorf("sent at %v, failed after %v, though the gateway was there: %s", failed.Intended, failed.Latency, failed.Error)
		}
	}
}

// report prints what each phase was like.
func report(t *testing.T, who string, r *openloop.Result, phases []window) {
	t.Helper()
	var table strings.Builder
	for _, p := range phases {
		part := r.Between(p.from, p.to)
		fmt.Fprintf(&table, "\n  %-31s %4d sent, lost without a retry %3d, with one %d; p50 %4d ms, p99 %5d ms, slowest %5d ms; %3.0f %% by west", p.what,
			len(part.Records), part.FailedFirst(), part.Failed(),
			part.Percentile(50).Milliseconds(), part.Percentile(99).Milliseconds(), part.Percentile(100).Milliseconds(),
			100*share(part, "west"))
	}
	t.Logf("%s:%s", who, table.String())
	var seconds strings.Builder
	for second := range r.EachSecond(phases[4].from, phases[4].to) {
		fmt.Fprintf(&seconds, " %.0f", 100*share(second, "west"))
	}
	t.Logf("%s: west's share in %% of each second of \"%s\":%s", who, phases[4].what, seconds.String())
}

// share is a region's part of the answers.
func share(r *openloop.Result, region string) (sum float64) {
	for node, part := range r.Share() {
		if strings.HasPrefix(node, region) {
			sum += part
		}
	}
	return sum
}
