//go:build unix

package failover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// What happens in the test below, and when, since the first request.
const (
	tenantComes  = 6 * time.Second
	tenantLeaves = 22 * time.Second
	tenantEnd    = 44 * time.Second
)

// A co-tenant takes 85 % of one of three GPUs: the node's speed and what it
// says of itself change together. Two gateways meet that at the same time, each
// with nodes of its own and the same requests; the machine disturbs both alike.
// Only a run that was disturbed so much that even sending was late may be
// repeated.
func TestCoTenantIsAvoidedAndTheNodeComesBack(t *testing.T) {
	const policy = `gpu {
			telemetry json http://{node.host}:{node.port}/gpu/status
			interval 1s
		}`
	for attempt := 1; ; attempt++ {
		var ours, stock *openloop.Result
		together(
			func() { ours = withTenant(t, policy) },
			func() { stock = withTenant(t, "least_conn") },
		)
		if t.Failed() {
			return
		}
		nothingLost(t, ours)
		wrong := judge(t, ours, stock)
		late := max(ours.Lateness(99), stock.Lateness(99))
		if len(wrong) == 0 {
			return
		}
		if late < 10*time.Millisecond || attempt == 3 {
			for _, w := range wrong {
				t.Error(w)
			}
			return
		}
		t.Logf("repeated, as requests were sent up to %v late: %v", late, wrong)
	}
}

func withTenant(t *testing.T, policy string) *openloop.Result {
	nodes := startNodes(t, 3)
	g := startCaddy(t, nodes, policy)
	l := startLoad(t, g, 5)
	l.at(tenantComes)
	set(t, nodes[0], `{"co_tenant":0.85}`)
	l.at(tenantLeaves)
	set(t, nodes[0], `{"co_tenant":0}`)
	l.at(tenantEnd)
	return l.end()
}

// judge tells what was not as it should be.
func judge(t *testing.T, ours, stock *openloop.Result) (wrong []string) {
	const quiet = 2 * time.Second // from then on latencies are known
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	share := func(r *openloop.Result, from, to time.Duration) float64 {
		return 100 * r.Between(from, to).Share()["n0"]
	}
	p99 := func(r *openloop.Result, from, to time.Duration) time.Duration {
		return r.Between(from, to).Percentile(99).Round(time.Millisecond)
	}

	before, beside, after := share(ours, quiet, tenantComes), share(ours, tenantComes+3*time.Second, tenantLeaves), share(ours, tenantLeaves+15*time.Second, tenantEnd)
	t.Logf("the node's share: %.0f %% before, %.1f %% from 3 s on, %.0f %% from 15 s after the co-tenant left; stock Caddy: %.1f %% beside it",
		before, beside, after, share(stock, tenantComes+3*time.Second, tenantLeaves))
	var seconds strings.Builder
	for second := range ours.EachSecond(0, tenantEnd) {
		fmt.Fprintf(&seconds, " %.0f", 100*second.Share()["n0"])
	}
	t.Logf("its share in %% of each second:%s", seconds.String())
	if beside > 12 {
		complain("3 s after the co-tenant came, the node still gets %.1f %% of the requests", beside)
	}
	// A third, for a node that passes for a single worker among others that do
	// not gets half of its share while there is so little to do.
	if after < before/3 {
		complain("15 s after the co-tenant left, the node gets %.0f %% of the requests, %.0f %% before", after, before)
	}

	o, s := p99(ours, tenantComes, tenantLeaves), p99(stock, tenantComes, tenantLeaves)
	t.Logf("p99 beside the co-tenant: %v, stock Caddy %v", o, s)
	if o > s/2 {
		complain("p99 is %v beside a co-tenant, stock Caddy's is %v", o, s)
	}
	o, s, q := p99(ours, tenantLeaves, tenantEnd), p99(stock, tenantLeaves, tenantEnd), p99(ours, quiet, tenantComes)
	t.Logf("p99 after it: %v, stock Caddy %v; before: %v", o, s, q)
	if o > 2*max(q, s) {
		complain("p99 is %v while the node comes back, %v before; stock Caddy's is %v", o, q, s)
	}
	return wrong
}
