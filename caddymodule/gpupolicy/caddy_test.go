package gpupolicy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

// upstream is a model node that a test can slow down, break, and kill.
type upstream struct {
	addr   string
	hits   atomic.Int64
	delay  atomic.Int64 // nanoseconds
	answer atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	server *http.Server
}

func newUpstream(t testing.TB) *upstream {
	u := &upstream{addr: caddyrun.FreeAddr(t)}
	u.start(t)
	t.Cleanup(u.kill)
	return u
}

func (u *upstream) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", u.addr)
	if err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.server = &http.Server{Handler: u}
	go u.server.Serve(l)
}

// kill closes the node and every connection to it at once.
func (u *upstream) kill() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.server.Close()
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.hits.Add(1)
	if d := time.Duration(u.delay.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
	}
	if h := u.answer.Load(); h != nil {
		(*h)(w, r)
		return
	}
	fmt.Fprint(w, u.addr)
}

func (u *upstream) answers(h http.HandlerFunc) { u.answer.Store(&h) }

func (u *upstream) inFlight(t testing.TB) int {
	t.Helper()
	n, _ := nodes.Acquire(clock(), u.addr)
	defer nodes.Release(clock(), n, 0)
	return n.InFlight()
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

type reply struct {
	status int
	body   string
	err    error
}

func fetch(c *http.Client, url string) reply {
	resp, err := c.Get(url)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(body), err}
}

// load keeps n clients busy until stop is called, which returns every reply
// that was not 200.
func load(c *http.Client, url string, n int) (stop func() (bad []reply)) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var bad []reply
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if r := fetch(c, url); r.err != nil || r.status != 200 {
					mu.Lock()
					bad = append(bad, r)
					mu.Unlock()
				}
			}
		})
	}
	return func() []reply {
		cancel()
		wg.Wait()
		return bad
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for: %s", what)
		}
	}
}

// proxy is a Caddyfile with one handler. The options follow lb_policy gpu, so
// they may begin with its block.
func proxy(options string, upstreams ...*upstream) string {
	var to []string
	for _, u := range upstreams {
		to = append(to, u.addr)
	}
	return fmt.Sprintf("http://ADDR_GW {\n\treverse_proxy %s {\n\t\tlb_policy gpu %s\n\t}\n}\n", strings.Join(to, " "), options)
}

// ejectAtOnce makes one failure enough: after it, a node that costs its
// clients 5 s is not asked again soon enough for a test.
const ejectAtOnce = "{\n\t\t\teject 1 failures\n\t\t}\n"

func TestKilledNodeCostsNoClientAnError(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	a.delay.Store(int64(2 * time.Millisecond))
	b.delay.Store(int64(2 * time.Millisecond))
	c := caddyrun.Start(t, proxy("\nlb_retries 3", a, b))
	stop := load(client(t), c.URL("GW"), 16)
	eventually(t, "both nodes to serve", func() bool { return a.hits.Load() > 50 && b.hits.Load() > 50 })
	a.kill()
	served := b.hits.Load()
	eventually(t, "the other node to carry on", func() bool { return b.hits.Load() > served+500 })
	if bad := stop(); len(bad) != 0 {
		t.Errorf("%d bad replies, the first %+v", len(bad), bad[0])
	}
	eventually(t, "in flight to return to zero", func() bool { return a.inFlight(t) == 0 && b.inFlight(t) == 0 })
}

func TestSlowNodeGetsLess(t *testing.T) {
	fast, slow := newUpstream(t), newUpstream(t)
	fast.delay.Store(int64(5 * time.Millisecond))
	slow.delay.Store(int64(50 * time.Millisecond))
	c := caddyrun.Start(t, proxy("", fast, slow))
	stop := load(client(t), c.URL("GW"), 8)
	eventually(t, "500 requests", func() bool { return fast.hits.Load()+slow.hits.Load() > 500 })
	if bad := stop(); len(bad) != 0 {
		t.Errorf("%d bad replies, the first %+v", len(bad), bad[0])
	}
	if f, s := fast.hits.Load(), slow.hits.Load(); s*5 > f {
		t.Errorf("fast node got %d, the one ten times slower %d", f, s)
	}
}
