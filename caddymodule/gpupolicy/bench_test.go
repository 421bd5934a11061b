package gpupolicy

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
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
			p.members.init(rules{}, pool, clock(), p.attend)
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
