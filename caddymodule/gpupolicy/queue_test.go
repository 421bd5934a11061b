package gpupolicy

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// crowded answers after a while and knows the most requests it had at a time.
type crowded struct{ now, most atomic.Int64 }

func (c *crowded) serve(took time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n := c.now.Add(1)
		defer c.now.Add(-1)
		for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
		}
		time.Sleep(took)
		fmt.Fprint(w, "ok")
	}
}

// burst sends n requests at once.
func burst(t testing.TB, url string, n int) []reply {
	cl := client(t)
	replies := make([]reply, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { replies[i] = fetch(cl, url) })
	}
	wg.Wait()
	return replies
}

func count(replies []reply, status int) (n int) {
	for _, r := range replies {
		if r.status == status {
			n++
		}
	}
	return n
}

func TestBurstWaitsForRoom(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	var ca, cb crowded
	a.answers(ca.serve(5 * time.Millisecond))
	b.answers(cb.serve(5 * time.Millisecond))
	c := caddyrun.Start(t, proxy("{\n\tmax_in_flight 3\n\tqueue 1000 30s\n}", a, b)+proxyNamed("GW2", "{\n\tmax_in_flight 3\n\tqueue 1000 30s\n}", a, b))
	var both sync.WaitGroup
	for _, gw := range []string{"GW", "GW2"} { // two handlers share the nodes, and their limits
		both.Go(func() {
			if replies := burst(t, c.URL(gw), 24); count(replies, 200) != 24 {
				t.Errorf("%d of 24 answered", count(replies, 200))
			}
		})
	}
	both.Wait()
	if ca.most.Load() > 3 || cb.most.Load() > 3 {
		t.Errorf("up to %d and %d requests at a time, want at most 3", ca.most.Load(), cb.most.Load())
	}
	idle(t, a, b)
}

func proxyNamed(name, options string, upstreams ...*upstream) string {
	return strings.Replace(proxy(options, upstreams...), "ADDR_GW", "ADDR_"+name, 1)
}

func TestFullQueueSaysWhenToComeBack(t *testing.T) {
	a := newUpstream(t)
	var ca crowded
	a.answers(ca.serve(300 * time.Millisecond))
	c := caddyrun.Start(t, proxy("{\n\tmax_in_flight 1\n\tqueue 2 30s\n}\nlb_retries 3", a)+"http://ADDR_METRICS {\n\tmetrics\n}\n")
	cl := client(t)
	var wg sync.WaitGroup
	var refused, served atomic.Int64
	for range 8 {
		wg.Go(func() {
			resp, err := cl.Get(c.URL("GW"))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			switch resp.StatusCode {
			case 200:
				served.Add(1)
			case 503:
				refused.Add(1)
				if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
					t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
				}
			}
		})
	}
	wg.Wait()
	if served.Load() != 3 || refused.Load() != 5 { // one at the node, two waiting
		t.Errorf("%d served, %d refused", served.Load(), refused.Load())
	}
	if s := nodeStatus(t, a); s.State != "up" || s.Ejections != 0 {
		t.Errorf("being full made the node %s", s.State)
	}
	text := fetch(cl, c.URL("METRICS")).body
	for _, want := range []string{"caddy_gpu_queue_length 0\n", "caddy_gpu_queue_wait_seconds_count "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(text, "caddy_gpu_shed_total{reason=\"full\"} 0\n") {
		t.Error("shed requests are not counted")
	}
}

func TestClientThatLeavesGivesItsPlaceBack(t *testing.T) {
	a := newUpstream(t)
	release := make(chan struct{})
	a.answers(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	c := caddyrun.Start(t, proxy("{\n\tmax_in_flight 1\n\tqueue 1 30s\n}", a))
	cl := client(t)
	var wg sync.WaitGroup
	ask := func(ctx context.Context) {
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, c.URL("GW"), nil)
			if resp, err := cl.Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	ask(t.Context())
	eventually(t, "the node to be full", func() bool { return a.inFlight(t) == 1 })
	waiting := func() (n int) {
		queues.each(func(q *sharedQueue) { n += q.Len() })
		return n
	}
	ctx, leave := context.WithCancel(t.Context())
	ask(ctx)
	eventually(t, "one to wait", func() bool { return waiting() == 1 })
	leave()
	eventually(t, "its place to be free", func() bool { return waiting() == 0 })
	ask(t.Context())
	eventually(t, "another to wait", func() bool { return waiting() == 1 })
	close(release)
	wg.Wait()
	idle(t, a)
}

// Those who wait when the configuration changes keep their places and are
// served by the new one's nodes.
func TestWaitersSurviveReloads(t *testing.T) {
	a := newUpstream(t)
	var ca crowded
	a.answers(ca.serve(20 * time.Millisecond))
	config := proxy("{\n\tmax_in_flight 2\n\tqueue 100 30s\n}", a)
	c := caddyrun.Start(t, config)
	var wg sync.WaitGroup
	wg.Go(func() {
		if replies := burst(t, c.URL("GW"), 16); count(replies, 200) != 16 {
			t.Errorf("%d of 16 answered: %+v", count(replies, 200), replies[0])
		}
	})
	eventually(t, "requests to wait", func() bool { return a.hits.Load() > 2 })
	for i := range 3 {
		c.Reload(strings.Replace(config, "30s", fmt.Sprintf("%ds", 31+i), 1))
	}
	wg.Wait()
	if ca.most.Load() > 2 {
		t.Errorf("up to %d requests at a time over reloads", ca.most.Load())
	}
}

func TestNobodyWaitsForDrainedNodes(t *testing.T) {
	a := newUpstream(t)
	c := caddyrun.Start(t, proxy("{\n\tqueue 100 1h\n}", a))
	if _, err := Drain(a.addr); err != nil {
		t.Fatal(err)
	}
	defer Resume(a.addr)
	if r := fetch(client(t), c.URL("GW")); r.status != 503 {
		t.Errorf("status %d with every node drained", r.status)
	}
}

func TestLearnedLimitIsShown(t *testing.T) {
	a := newUpstream(t)
	c := caddyrun.Start(t, proxy("{\n\tmax_in_flight auto\n}", a))
	fetch(client(t), c.URL("GW"))
	if s := nodeStatus(t, a); s.Limit == nil || *s.Limit < 1 {
		t.Errorf("limit %v", s.Limit)
	}
}

func TestUrgencies(t *testing.T) {
	for text, want := range map[string]balance.Urgency{
		"": 3, "0": 0, "7": 7, "8": 3, "-1": 3, "u=1": 1, "u=6, i": 6, "i, u=0": 0, "high": 3, "1, 2": 3, "u=9": 3, " 2 ": 2,
	} {
		if got := parseUrgency(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestUrgentRequestsGoFirst(t *testing.T) {
	a := newUpstream(t)
	var mu sync.Mutex
	var order []string
	gate := make(chan struct{})
	a.answers(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		order = append(order, r.Header.Get("Priority"))
		first := len(order) == 1
		mu.Unlock()
		if first {
			<-gate
		}
	})
	c := caddyrun.Start(t, proxy("{\n\tmax_in_flight 1\n\tqueue 100 30s {header.Priority}\n}", a))
	cl := client(t)
	var wg sync.WaitGroup
	ask := func(priority string) {
		before := 0
		queues.each(func(q *sharedQueue) { before += q.Len() })
		wg.Go(func() {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL("GW"), nil)
			req.Header.Set("Priority", priority)
			if resp, err := cl.Do(req); err == nil {
				resp.Body.Close()
			}
		})
		eventually(t, "it to wait", func() bool {
			n := 0
			queues.each(func(q *sharedQueue) { n += q.Len() })
			mu.Lock()
			defer mu.Unlock()
			return n > before || len(order) == 1 && before == 0
		})
	}
	ask("u=3")
	eventually(t, "the node to be full", func() bool { return a.inFlight(t) == 1 })
	ask("u=7")
	time.Sleep(10 * time.Millisecond)
	ask("u=0")
	close(gate)
	wg.Wait()
	if got := strings.Join(order, " "); got != "u=3 u=0 u=7" {
		t.Errorf("order %s", got)
	}
}
