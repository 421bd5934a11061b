package modelproxy

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestPostSurvivesANodeThatDiesAfterReadingIt(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.answers(dies)
	c := caddyrun.Start(t, proxy("health off\neject off", a, b))
	body := strings.Repeat("x", 5<<20)
	for i := range 10 {
		if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)+body); r.status != 200 || r.body != b.addr {
			t.Fatalf("%d %.100q %v", r.status, r.body, r.err)
		}
	}
	if a.runs() == 0 {
		t.Error("the dying node was never asked")
	}
}

// The limit is a promise: bodies of exactly 8 MiB are repeated, too.
func TestLargestBodyIsRepeated(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.answers(dies)
	c := caddyrun.Start(t, proxy("health off\neject off", a, b))
	for a.runs() == 0 {
		if r := send(client(t), "POST", c.URL("GW"), strings.Repeat("x", bodyLimit)); r.status != 200 {
			t.Errorf("8 MiB: %d %v", r.status, r.err)
		}
	}
}

// Of a larger body the next node would get less than was announced, and be
// blamed for it.
func TestBodyTooLargeToRepeatBlamesNoOtherNode(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.answers(dies)
	b.answers(dies)
	c := caddyrun.Start(t, proxy("health off\neject off", a, b))
	body := strings.Repeat("x", 2*bodyLimit)
	if r := send(client(t), "POST", c.URL("GW"), body); r.status != 502 {
		t.Errorf("%d %v, want 502", r.status, r.err)
	}
	if n := a.runs() + b.runs(); n != 1 {
		t.Errorf("ran %d times", n)
	}
	other := a
	if a.runs() > 0 {
		other = b
	}
	if s := other.status(t); s.LatencyMS != nil {
		t.Errorf("the other node has a latency, %v ms, though it was never sent anything", *s.LatencyMS)
	}
}

// Nodes die before, within and after their work, all the time, and no request
// is ever run twice.
func TestNoRetryRunsAtMostOnce(t *testing.T) {
	for _, method := range []string{"POST", "GET"} {
		t.Run(method, func(t *testing.T) {
			nodes := []*node{newNode(t), newNode(t), newNode(t)}
			seen := make(map[string]*atomic.Int64)
			const requests = 1000
			for i := range requests {
				seen[fmt.Sprint(i)] = new(atomic.Int64)
			}
			var turn atomic.Int64
			for _, n := range nodes {
				n.answers(func(w http.ResponseWriter, r *http.Request) {
					seen[r.URL.Query().Get("id")].Add(1)
					switch turn.Add(1) % 10 {
					case 0:
						dies(w, r)
					case 1:
						says(503, "no")(w, r)
					case 2:
						says(200, "closing", "Connection", "close")(w, r)
					default:
						says(200, "yes")(w, r)
					}
				})
			}
			c := caddyrun.Start(t, proxy("no_retry\nhealth off\neject off", nodes...))
			stop := make(chan struct{})
			var killer sync.WaitGroup
			killer.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(5 * time.Millisecond):
					}
					n := nodes[i%3]
					n.kill()
					time.Sleep(5 * time.Millisecond)
					n.start(t)
				}
			})
			cl := client(t)
			var wg sync.WaitGroup
			var good, served atomic.Int64
			for worker := range 8 {
				wg.Go(func() {
					for i := worker; i < requests; i += 8 {
						if r := send(cl, method, fmt.Sprintf("%s/?id=%d", c.URL("GW"), i), ""); r.status == 200 {
							good.Add(1)
						}
					}
				})
			}
			wg.Wait()
			close(stop)
			killer.Wait()
			twice := 0
			for id, n := range seen {
				if n.Load() > 1 {
					twice++
					t.Logf("%s ran %d times", id, n.Load())
				}
				served.Add(min(1, n.Load()))
			}
			t.Logf("%d of %d good, %d reached a node", good.Load(), requests, served.Load())
			if twice > 0 || good.Load() < requests/2 || served.Load() == requests && good.Load() == requests {
				t.Errorf("%d ran twice", twice)
			}
		})
	}
}

func TestNoRetryStillLeavesANodeThatTakesNoConnections(t *testing.T) {
	a, b := newNode(t), newNode(t)
	a.kill()
	c := caddyrun.Start(t, proxy("no_retry\nhealth off\neject off", a, b))
	for i := range 20 {
		if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)); r.status != 200 {
			t.Fatalf("%d %v", r.status, r.err)
		}
	}
}

func TestNothingIsRepeatedAfterTheFirstByte(t *testing.T) {
	a, b := newNode(t), newNode(t)
	for _, n := range []*node{a, b} {
		n.answers(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			fmt.Fprint(w, "half an ans")
			w.(http.Flusher).Flush()
			dies(w, r)
		})
	}
	c := caddyrun.Start(t, proxy("health off\neject off", a, b))
	for i := range 20 {
		body := fmt.Sprint(i)
		r := send(client(t), "POST", c.URL("GW"), body)
		if r.err == nil || r.body != "half an ans" {
			t.Errorf("%d %q %v, want what came, and an error", r.status, r.body, r.err)
		}
		if ran := a.times(body) + b.times(body); ran != 1 {
			t.Errorf("ran %d times", ran)
		}
	}
}

func TestBusyNodeIsLeftForAnotherAndNeverEjected(t *testing.T) {
	for name, busy := range map[string]http.HandlerFunc{
		"503": says(503, "full", "Retry-After", "1"),
		"429": says(429, "too many"),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newNode(t), newNode(t)
			a.answers(busy)
			c := caddyrun.Start(t, proxy("backup "+b.addr+"\nhealth off\neject 1 failures", a))
			for i := range 50 {
				if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)); r.status != 200 {
					t.Fatalf("%d %q", r.status, r.body)
				}
			}
			if s := a.status(t); s.State != "up" || a.runs() == 0 {
				t.Errorf("the busy node is %s after %d requests", s.State, a.runs())
			}
		})
	}
}

// Each node takes one request at a time; one fails at once, and so has room.
func TestRetryWaitsForANodeThatIsFull(t *testing.T) {
	a, b := newNode(t), newNode(t)
	drain := func(f func(string) (gpupolicy.Status, error), n *node) {
		t.Helper()
		if _, err := f(n.addr); err != nil {
			t.Fatal(err)
		}
	}
	// b takes its time, so that it is not soon suspected to hang.
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(1500 * time.Millisecond)
		fmt.Fprint(w, "ok")
	})
	c := caddyrun.Start(t, proxy("max_in_flight 1\nqueue 100 60s\nhealth off\neject off\nslow_start off", a, b))
	cl := client(t)
	for _, other := range []*node{a, b} { // learn the latency of each
		drain(gpupolicy.Drain, other)
		if r := send(cl, "POST", c.URL("GW"), ""); r.status != 200 {
			t.Fatalf("%d %q", r.status, r.body)
		}
		drain(gpupolicy.Resume, other)
	}

	release := make(chan struct{})
	b.answers(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, "ok")
	})
	a.answers(says(503, "out of order"))
	replies := make(chan reply, 2)
	drain(gpupolicy.Drain, a)
	go func() { replies <- send(cl, "POST", c.URL("GW"), "first") }()
	eventually(t, "the good node to be full", func() bool { return b.times("first") == 1 })
	drain(gpupolicy.Resume, a)
	go func() { replies <- send(cl, "POST", c.URL("GW"), "second") }()
	eventually(t, "the other to fail", func() bool { return a.times("second") > 0 })
	close(release)
	for range cap(replies) {
		if r := <-replies; r.status != 200 || r.body != "ok" {
			t.Errorf("%d %q %v", r.status, r.body, r.err)
		}
	}
	if n := a.times("second"); n > 1 {
		t.Errorf("a request went to the failing node %d times", n)
	}
}

// When every node is busy the client hears it in the node's own words, which
// reverse_proxy would throw away with an answer that it wanted to retry.
func TestLastAnswerReachesTheClientWhole(t *testing.T) {
	a, b := newNode(t), newNode(t)
	for _, n := range []*node{a, b} {
		n.answers(says(503, `{"error":"full"}`, "Retry-After", "7"))
	}
	c := caddyrun.Start(t, proxy("health off\neject off", a, b))
	r := send(client(t), "POST", c.URL("GW"), "1")
	if r.status != 503 || r.body != `{"error":"full"}` || r.header.Get("Retry-After") != "7" {
		t.Errorf("%d %q %v", r.status, r.body, r.header)
	}
	if a.runs() != 1 || b.runs() != 1 {
		t.Errorf("asked %d and %d times, want each once", a.runs(), b.runs())
	}
	for _, n := range []*node{a, b} {
		n.answers(says(500, "a bug"))
	}
	if r := send(client(t), "POST", c.URL("GW"), "2"); r.status != 500 || r.body != "a bug" {
		t.Errorf("%d %q", r.status, r.body)
	}
	if n := a.times("2") + b.times("2"); n != 1 {
		t.Errorf("a 500 was asked for %d times, want once: the next node has the same bug", n)
	}
}

func TestRetriesAreBounded(t *testing.T) {
	var nodes []*node
	for range 6 {
		n := newNode(t)
		n.answers(dies)
		nodes = append(nodes, n)
	}
	c := caddyrun.Start(t, proxy("health off\neject off", nodes...))
	if r := send(client(t), "POST", c.URL("GW"), "1"); r.status != 502 {
		t.Errorf("%d", r.status)
	}
	sum := 0
	for _, n := range nodes {
		sum += n.times("1")
		if n.times("1") > 1 {
			t.Error("a node was asked twice")
		}
	}
	if sum != 1+maxRetries {
		t.Errorf("%d tries, want %d", sum, 1+maxRetries)
	}
}

func TestBackupsServeOnlyWhenTheOthersAreLost(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := caddyrun.Start(t, proxy("backup "+b.addr+"\nhealth /health {\n\tinterval 100ms\n\tfall 1\n\trise 1\n}", a))
	for i := range 20 {
		if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)); r.body != a.addr {
			t.Fatalf("%d %q", r.status, r.body)
		}
	}
	a.kill()
	for i := range 20 {
		if r := send(client(t), "POST", c.URL("GW"), fmt.Sprint(i)); r.body != b.addr {
			t.Fatalf("%d %q", r.status, r.body)
		}
	}
}
