//go:build unix

// Package failover tests what clients see while nodes fail, with the real
// binary and nodes that are processes, under load.
package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

var binaries gateway.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "failover")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binaries, err = gateway.Build(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// The nodes are slow and the load is low, so that the delays of a busy machine
// are small beside what is measured: three of them can answer 120 a second.
const (
	service = 50 * time.Millisecond
	rate    = 60
)

func startNodes(t *testing.T, n int, flags ...string) []*simnode.Process {
	t.Helper()
	nodes := make([]*simnode.Process, n)
	for i := range nodes {
		p, err := simnode.Spawn(binaries.Node, append([]string{
			fmt.Sprintf("-name=n%d", i), fmt.Sprintf("-service=%v", service), "-sigma=0.25", fmt.Sprintf("-seed=%d", i),
		}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Kill(); err != nil {
				t.Error(err)
			}
		})
		nodes[i] = p
	}
	return nodes
}

// caddyfile proxies to the nodes as docs recommend it, with the given policy.
func caddyfile(p gateway.Places, nodes []*simnode.Process, policy string) string {
	addresses := make([]string, len(nodes))
	for i, n := range nodes {
		addresses[i] = n.Address
	}
	return fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
}

http://%s {
	reverse_proxy %s {
		lb_policy %s
		lb_retries 3
		lb_retry_match "{rp.is_transport_error} == true || {rp.status_code} in [500, 502, 503, 504]"
		request_buffers 64KiB
		transport http {
			dial_timeout 2s
			response_header_timeout 2s
		}
	}
}
`, p.Admin, p.Addr, strings.Join(addresses, " "), policy)
}

func startCaddy(t *testing.T, nodes []*simnode.Process, policy string) *gateway.Gateway {
	t.Helper()
	places, err := gateway.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.Caddy(places, binaries.Caddy, caddyfile(places, nodes, policy))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gateway: %.4000s", g.Log())
		}
		g.Stop()
	})
	return g
}

// load is a run under way.
type load struct {
	begin  time.Time
	stop   context.CancelFunc
	done   chan struct{}
	result *openloop.Result
}

// startLoad sends requests at the usual rate until it is stopped, for five minutes
// at the most.
func startLoad(t *testing.T, g *gateway.Gateway, seed uint64) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{begin: time.Now(), stop: stop, done: make(chan struct{})}
	arrivals := openloop.Poisson(seed, openloop.Phase{For: 5 * time.Minute, Rate: rate})
	go func() {
		defer close(l.done)
		l.result = openloop.Run(ctx, openloop.Config{URL: g.URL("/predict"), NodeHeader: simnode.NodeHeader, Timeout: 30 * time.Second, Begin: l.begin}, arrivals)
	}()
	t.Cleanup(func() { l.end() })
	return l
}

// at waits until so long after the begin.
func (l *load) at(d time.Duration) { time.Sleep(time.Until(l.begin.Add(d))) }

func (l *load) end() *openloop.Result {
	l.stop()
	<-l.done
	return l.result
}

// nothingLost fails the test unless every request was answered, and rightly.
func nothingLost(t *testing.T, r *openloop.Result) {
	t.Helper()
	if r.Failed() > 0 {
		t.Errorf("%d of %d requests lost:\n%s", r.Failed(), len(r.Records), strings.Join(r.Failures(), "\n"))
	}
}

// nodeView is what the admin endpoint tells of a node.
type nodeView struct {
	Address   string         `json:"address"`
	State     string         `json:"state"`
	InUse     bool           `json:"in_use"`
	InFlight  int            `json:"in_flight"`
	LatencyMS *float64       `json:"latency_ms"`
	Ejections int            `json:"ejections"`
	Picks     map[string]int `json:"picks"`
}

func (v *nodeView) picks() (sum int) {
	for _, n := range v.Picks {
		sum += n
	}
	return sum
}

// call asks the admin endpoint about a node, or orders something of it.
func call(t *testing.T, g *gateway.Gateway, method, path string) (v nodeView) {
	t.Helper()
	answer, err := g.Call(method, "/gpu/nodes/"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func view(t *testing.T, g *gateway.Gateway, n *simnode.Process) nodeView {
	t.Helper()
	return call(t, g, http.MethodGet, n.Address)
}

func set(t *testing.T, n *simnode.Process, settings string) {
	t.Helper()
	if _, err := n.Set(settings); err != nil {
		t.Fatal(err)
	}
}

func state(t *testing.T, n *simnode.Process) simnode.State {
	t.Helper()
	s, err := n.State()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited 90 s for %s", what)
}

// together runs tests' actions at the same time.
func together(actions ...func()) {
	var wg sync.WaitGroup
	for _, a := range actions {
		wg.Go(a)
	}
	wg.Wait()
}
