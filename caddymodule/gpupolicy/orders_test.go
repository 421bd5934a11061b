package gpupolicy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// drain drains a node until the test ends: orders outlive configurations.
func (u *upstream) drain(t testing.TB) {
	t.Helper()
	if _, err := Drain(u.addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Resume(u.addr) })
}

func TestDrainUnderLoadAndReloadsLosesNothing(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	a.delay.Store(int64(5 * time.Millisecond))
	b.delay.Store(int64(5 * time.Millisecond))
	one := proxy("\nlb_retries 2", a, b)
	config := one + strings.Replace(one, "ADDR_GW", "ADDR_OTHER", 1)
	c := caddyrun.Start(t, config)
	cl := client(t)
	stop, stopOther := load(cl, c.URL("GW"), 8), load(cl, c.URL("OTHER"), 8)
	eventually(t, "both nodes to serve", func() bool { return a.hits.Load() > 50 && b.hits.Load() > 50 })
	a.drain(t)
	eventually(t, "the node to be drained", func() bool { return a.state(t) == balance.Drained })
	hits := a.hits.Load()
	for range 5 {
		served := b.hits.Load()
		c.Reload(config)
		eventually(t, "the other node to carry on", func() bool { return b.hits.Load() > served+50 })
	}
	c.Reload(proxy("\nlb_retries 2", b)) // a mistake, soon put right
	c.Reload(config)
	served := b.hits.Load()
	eventually(t, "the other node to carry on", func() bool { return b.hits.Load() > served+50 })
	for _, r := range append(stop(), stopOther()...) {
		if r.err == nil && r.status != 404 { // OTHER was away for a moment
			t.Errorf("a client got %+v", r)
		}
	}
	if got := a.hits.Load() - hits; got != 0 {
		t.Errorf("%d requests to a drained node", got)
	}
	if !strings.Contains(c.Log(), "upstream is drained by an operator's order") {
		t.Error("the configurations loaded since do not mention the drain")
	}
	if _, err := Resume(a.addr); err != nil {
		t.Fatal(err)
	}
	stop = load(cl, c.URL("GW"), 32)
	eventually(t, "the resumed node to serve", func() bool { return a.hits.Load() > hits })
	stop()
	idle(t, a, b)
}

func TestNothingIsSentWhenAllNodesAreDrained(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	c := caddyrun.Start(t, proxy("\nlb_retries 2", a, b))
	a.drain(t)
	b.drain(t)
	for range 10 {
		if r := fetch(client(t), c.URL("GW")); r.status != http.StatusServiceUnavailable {
			t.Fatalf("%+v", r)
		}
	}
	if a.hits.Load()+b.hits.Load() != 0 {
		t.Error("a drained node got a request")
	}
}

func TestDrainIsTold(t *testing.T) {
	u, other := newUpstream(t), newUpstream(t)
	release := make(chan struct{})
	u.answers(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		<-release
		fmt.Fprint(w, "done")
	})
	c := caddyrun.Start(t, "{\n\tevents {\n\t\ton gpu.node_state test_record\n\t}\n}\n"+proxy("", u)+
		strings.Replace(proxy("", other), "ADDR_GW", "ADDR_OTHER", 1)+"http://ADDR_METRICS {\n\tmetrics\n}\n")
	replies := make(chan reply, 1)
	cl := client(t)
	go func() { replies <- fetch(cl, c.URL("GW")) }()
	eventually(t, "the request to arrive", func() bool { return u.hits.Load() == 1 })
	before := time.Now()
	u.drain(t)
	if s, err := Drain(u.addr); err != nil || s.State != "draining" || s.Reason != "drained by order" || s.InFlight != 1 || s.Since.Before(before.Add(-time.Second)) {
		t.Errorf("%+v, %v", s, err)
	}
	metrics := func(state string) {
		t.Helper()
		text := fetch(cl, c.URL("METRICS")).body
		for _, want := range []string{
			fmt.Sprintf("caddy_gpu_state{node=%q,state=%q} 1\n", u.addr, state),
			fmt.Sprintf("caddy_gpu_state{node=%q,state=\"up\"} 0\n", u.addr),
			fmt.Sprintf("caddy_gpu_node_up{node=%q} 0\n", u.addr),
			fmt.Sprintf("caddy_gpu_node_up{node=%q} 1\n", other.addr),
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, gpuLines(text))
			}
		}
	}
	metrics("draining")
	close(release)
	if r := <-replies; r.status != 200 || r.body != "done" {
		t.Errorf("the request under way got %+v", r)
	}
	eventually(t, "the end of the drain", func() bool { s, _ := Node(u.addr); return s.State == "drained" })
	metrics("drained")
	if s, _ := Resume(u.addr); s.State != "slow_start" || s.Reason != "resumed by order" {
		t.Errorf("%+v", s)
	}
	want := []string{"up>draining", "draining>drained", "drained>slow_start"}
	eventually(t, fmt.Sprintf("events %v", want), func() bool {
		var got []string
		for _, e := range recordedEvents(t) {
			if e["node"] == u.addr {
				got = append(got, fmt.Sprintf("%v>%v", e["old"], e["new"]))
			}
		}
		if len(got) > len(want) {
			t.Fatalf("events %v, want %v", got, want)
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

func TestHealthChecksDoNotBringADrainedNodeBack(t *testing.T) {
	u := newUpstream(t)
	p := &Policy{balancer: balance.New(balance.Options{})}
	c := caddyrun.Start(t, proxy("", u))
	fetch(client(t), c.URL("GW"))
	u.drain(t)
	m := &member{dial: u.addr, node: u.node(t), weight: 1, tier: 1}
	now := clock()
	p.healthChanged(now, m, true, "health check") // must tell nobody: p has no logger
	p.healthChanged(now, m, false, "health check")
	if s := p.state(now, m); s != balance.Drained {
		t.Errorf("%v", s)
	}
}

func TestOrderedWeightMovesTraffic(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	a.delay.Store(int64(5 * time.Millisecond))
	b.delay.Store(int64(5 * time.Millisecond))
	config := proxy("{\n\t\t\tweight "+a.addr+" 2\n\t\t}\n", a, b)
	c := caddyrun.Start(t, config)
	t.Cleanup(func() { SetWeight(a.addr, 0) })
	s, err := SetWeight(a.addr, 9)
	if err != nil || s.Weight != 9 || s.ConfiguredWeight != 2 || s.OrderedWeight == nil || *s.OrderedWeight != 9 || s.Factors.Weight != 9 {
		t.Errorf("%+v, %v", s, err)
	}
	c.Reload(config)
	stop := load(client(t), c.URL("GW"), 20)
	// Of some 300 requests in a row: a pause of this machine at the wrong time
	// makes the node look slow that had the more requests.
	eventually(t, "weight 9 to get twice as much as weight 1", func() bool {
		x, y := a.hits.Load(), b.hits.Load()
		eventually(t, "300 requests", func() bool { return a.hits.Load()+b.hits.Load() > x+y+300 })
		return a.hits.Load()-x > 2*(b.hits.Load()-y)
	})
	stop()
	if s, _ := SetWeight(a.addr, 0); s.Weight != 2 || s.OrderedWeight != nil {
		t.Errorf("%+v", s)
	}
	for _, w := range []float64{-1, 1e7, 1e-9} {
		if _, err := SetWeight(a.addr, w); err == nil || !strings.Contains(err.Error(), "drain it") {
			t.Errorf("weight %g: %v", w, err)
		}
	}
}

func TestUnknownNodesAreNamedAsSuch(t *testing.T) {
	u := newUpstream(t)
	caddyrun.Start(t, proxy("", u))
	_, err := Drain("10.9.9.9:1")
	if unknown, ok := errors.AsType[*UnknownNodeError](err); !ok || !strings.Contains(unknown.Error(), u.addr) {
		t.Errorf("%v", err)
	}
	if s, err := Node("http://" + u.addr); err != nil || s.Address != u.addr || !s.InUse {
		t.Errorf("%+v, %v", s, err)
	}
	many := &UnknownNodeError{Addr: "a", Known: make([]string, maxListed+3)}
	if !strings.HasSuffix(many.Error(), "and 3 more") {
		t.Error(many)
	}
}

// However many upstreams a source makes up, it can't make a drained one new.
func TestDrainHoldsBeyondTheMemoryForDynamicUpstreams(t *testing.T) {
	const dial = "10.9.9.9:2"
	now := clock()
	n, _ := nodes.Acquire(now, dial)
	n.Drain(now, nil)
	nodes.Release(now, n, 0)
	defer n.Resume(now)
	var ms members
	ms.init(rules{}, nil, now, func(*member) {})
	for i := range maxDynamic {
		key := fmt.Sprint(i)
		ms.dynamic[key] = ms.member(key, balance.NewNode(key))
		ms.dynamic[key].seen.Store(int64(now))
	}
	if m := ms.get(now, 0, &reverseproxy.Upstream{Dial: dial}); m.node != n {
		t.Error("the policy took a drained node for a new one")
	}
}
