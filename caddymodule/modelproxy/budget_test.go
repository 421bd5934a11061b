package modelproxy

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// sendMany sends n requests from so many workers and returns the replies.
func sendMany(t *testing.T, url string, n, workers int) []reply {
	replies := make([]reply, n)
	cl := client(t)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				replies[i] = send(cl, "POST", url, fmt.Sprint(i))
			}
		})
	}
	wg.Wait()
	return replies
}

func TestFailingNodesAreNotAskedOverAndOver(t *testing.T) {
	var nodes []*node
	for range 4 {
		n := newNode(t)
		n.answers(says(503, "broken"))
		nodes = append(nodes, n)
	}
	c := caddyrun.Start(t, proxy("health off\neject off", nodes...))
	const requests, workers = 500, 8
	began := time.Now()
	for i, r := range sendMany(t, c.URL("GW"), requests, workers) {
		if r.status != 503 || r.body != "broken" && r.header.Get("Retry-After") == "" {
			t.Fatalf("%d: %d %q %v", i, r.status, r.body, r.header)
		}
	}
	attempts := 0
	for _, n := range nodes {
		attempts += n.runs()
	}
	windows := 1 + int(time.Since(began)/(10*time.Second))
	if most := requests*12/10 + windows*max(10, workers); attempts > most {
		t.Errorf("%d attempts for %d requests, want at most %d", attempts, requests, most)
	}
	t.Logf("%d attempts for %d requests", attempts, requests)
}

// reverse_proxy goes on with errors until lb_try_duration is over; a client
// whose request will not be tried again hears so at once, and how.
func TestSpentBudgetIsToldAtOnce(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.answers(dies)
	b.answers(dies)
	c := caddyrun.Start(t, proxy("health off\neject off\nretry_budget 10% 1\nlb_try_duration 1h", a, b))
	cl := client(t)
	before := metric(cl, c, `caddy_gpu_retry_budget_exhausted_total{kind="retry"}`)
	r := send(cl, "POST", c.URL("GW"), "1")
	if r.status != 503 || r.header.Get("Retry-After") != "1" || r.header.Get("Content-Type") != "application/json" ||
		r.body != `{"error":"the request failed, and too many are being tried again: try later"}` {
		t.Errorf("%d %q %v %v", r.status, r.body, r.header, r.err)
	}
	if n := metric(cl, c, `caddy_gpu_retry_budget_exhausted_total{kind="retry"}`) - before; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

func TestFallbackAnswersWhatTheBudgetRefuses(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.answers(dies)
	b.answers(dies)
	c := caddyrun.Start(t, proxy("health off\neject off\nretry_budget 1% 1\nfallback ner", a, b))
	for i := range 20 {
		if r := send(client(t), "POST", c.URL("GW"), sentence); !fellBack(r) {
			t.Fatalf("%d: %d %q %v", i, r.status, r.body, r.header)
		}
	}
	if n := a.runs() + b.runs(); n > 25 {
		t.Errorf("%d attempts for 20 requests", n)
	}
}

// What could not connect has cost nobody any work, and may go on as it always
// did; with no_retry these are the only retries there are.
func TestRetriesOfWhatCouldNotConnectAreFree(t *testing.T) {
	for _, options := range []string{"", "\nno_retry"} {
		t.Run(options, func(t *testing.T) {
			a, b := newNode(t), newNode(t)
			a.kill()
			b.kill()
			c := caddyrun.Start(t, proxy("health off\neject off\nretry_budget 1% 1\nfallback ner"+options, a, b))
			cl := client(t)
			before := metric(cl, c, `caddy_gpu_retry_budget_exhausted_total{kind="retry"}`)
			for i := range 20 {
				if r := send(cl, "POST", c.URL("GW"), sentence); !fellBack(r) {
					t.Fatalf("%d: %d %q %v", i, r.status, r.body, r.header)
				}
			}
			b.start(t)
			for i := range 20 {
				if r := send(cl, "POST", c.URL("GW"), fmt.Sprint(i)); r.body != b.addr {
					t.Fatalf("%d: %d %q %v", i, r.status, r.body, r.header)
				}
			}
			if n := metric(cl, c, `caddy_gpu_retry_budget_exhausted_total{kind="retry"}`) - before; n != 0 {
				t.Errorf("the budget refused %d", n)
			}
		})
	}
}

func TestDeathOfABusyNodeLosesNothing(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := caddyrun.Start(t, proxy("health off\nretry_budget 1% 1\nhedge off", a, b))
	g := newGate()
	a.answers(g.hold)
	b.answers(g.hold)
	const requests = 60
	done := make(chan []reply)
	go func() { done <- sendMany(t, c.URL("GW"), requests, requests) }()
	eventually(t, "the nodes to be busy", func() bool { return g.held.Load() == requests })
	if n := a.runs(); n < requests/4 {
		t.Fatalf("the node has %d requests: this shows nothing", n)
	}
	a.kill()
	close(g.open)
	for i, r := range <-done {
		if r.status != 200 {
			t.Errorf("%d: %d %q %v", i, r.status, r.body, r.err)
		}
	}
}
