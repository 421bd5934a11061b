package gpupolicy

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/caddymodule/internal/caddyrun"
)

// BenchmarkSelect is the policy's whole share of a request but the observer:
// time, request memory, pick, reservation and its release.
func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{4, 16, 64} {
		var pool reverseproxy.UpstreamPool
		for i := range n {
			pool = append(pool, &reverseproxy.Upstream{Dial: fmt.Sprintf("10.0.0.%d:80", i), Host: new(reverseproxy.Host)})
		}
		b.Run(fmt.Sprintf("gpu/%d", n), func(b *testing.B) {
			p := &Policy{balancer: balance.New(balance.Options{}), observed: true, varKey: "gpu"}
			p.scratch.New = func() any { return new([]balance.Candidate) }
			p.members.init(rules{}, pool, clock())
			defer p.members.release(clock())
			benchmarkSelect(b, p, pool)
		})
		b.Run(fmt.Sprintf("least_conn/%d", n), func(b *testing.B) {
			benchmarkSelect(b, reverseproxy.LeastConnSelection{}, pool)
		})
	}
}

func benchmarkSelect(b *testing.B, s reverseproxy.Selector, pool reverseproxy.UpstreamPool) {
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.WithValue(context.Background(), caddyhttp.VarsCtxKey, map[string]any{}))
		r := (&http.Request{}).WithContext(ctx)
		if s.Select(pool, r, nil) == nil {
			b.Fatal("nothing selected")
		}
		if p, ok := s.(*Policy); ok {
			p.request(r).take().end(clock())
		}
		cancel()
	}
}

// BenchmarkProxied compares whole requests through Caddy with stock
// least_conn's, in one run and alternating, on the same two nodes.
func BenchmarkProxied(b *testing.B) {
	one, two := newUpstream(b), newUpstream(b)
	config := func(name, policy string) string {
		return fmt.Sprintf("http://ADDR_%s {\n\treverse_proxy %s %s {\n\t\tlb_policy %s\n\t}\n}\n", name, one.addr, two.addr, policy)
	}
	c := caddyrun.Start(b, config("GPU", "gpu")+config("STOCK", "least_conn"))
	cl := client(b)
	for round := range 3 {
		for _, name := range []string{"STOCK", "GPU"} {
			b.Run(fmt.Sprintf("%s/%d", name, round), func(b *testing.B) {
				url := c.URL(name)
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if r := fetch(cl, url); r.status != 200 {
							b.Errorf("%+v", r)
							return
						}
					}
				})
			})
		}
	}
}
