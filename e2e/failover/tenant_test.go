//go:build unix

package failover

import (
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// A co-tenant takes 85 % of one of three GPUs: the node's speed and what it
// says of itself change together. Two gateways meet that at the same time, each
// with nodes of its own and the same requests; the machine disturbs both alike.
func TestCoTenantIsAvoidedAndTheNodeComesBack(t *testing.T) {
	const quiet, comes, leaves, end = 2 * time.Second, 6 * time.Second, 22 * time.Second, 44 * time.Second
	measure := func(policy string) *openloop.Result {
		nodes := startNodes(t, 3)
		return withTenant(t, nodes, startCaddy(t, nodes, policy), comes, leaves, end)
	}
	var ours, stock *openloop.Result
	together(func() { ours = measure(policy) }, func() { stock = measure("least_conn") })
	nothingLost(t, ours)

	share := func(from, to time.Duration) float64 { return ours.Between(from, to).Share()["n0"] }
	p99 := func(r *openloop.Result, from, to time.Duration) time.Duration {
		return r.Between(from, to).Percentile(99)
	}
	t.Logf("its share: %.3f before, %.3f from 3 s on, %.3f from 15 s after the co-tenant left; stock Caddy %.3f",
		share(quiet, comes), share(comes+3*time.Second, leaves), share(leaves+15*time.Second, end),
		stock.Between(comes+3*time.Second, leaves).Share()["n0"])
	t.Logf("p99: %v before, %v beside the co-tenant, %v after; stock Caddy %v, %v, %v",
		p99(ours, quiet, comes), p99(ours, comes, leaves), p99(ours, leaves, end),
		p99(stock, quiet, comes), p99(stock, comes, leaves), p99(stock, leaves, end))

	if s := share(comes+3*time.Second, leaves); s > 0.12 {
		t.Errorf("3 s after the co-tenant came, the node still gets %.0f %% of the requests", 100*s)
	}
	if o, s := p99(ours, comes, leaves), p99(stock, comes, leaves); o > s/2 {
		t.Errorf("p99 %v beside a co-tenant, stock Caddy's is %v", o, s)
	}
	if s := share(leaves+15*time.Second, end); s < 0.2 {
		t.Errorf("15 s after the co-tenant left, the node gets %.0f %% of the requests", 100*s)
	}
	if o, q, s := p99(ours, leaves, end), p99(ours, quiet, comes), p99(stock, leaves, end); o > 2*max(q, s) {
		t.Errorf("p99 %v when the node came back, %v before the co-tenant, stock Caddy's is %v", o, q, s)
	}
}

// policy is what the tests of telemetry use.
const policy = "gpu"

func withTenant(t *testing.T, nodes []*simnode.Process, g *gateway.Gateway, comes, leaves, end time.Duration) *openloop.Result {
	l := startLoad(t, g, 5)
	l.at(comes)
	set(t, nodes[0], `{"co_tenant":0.85}`)
	l.at(leaves)
	set(t, nodes[0], `{"co_tenant":0}`)
	l.at(end)
	return l.end()
}
