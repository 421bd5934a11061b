package balance

import (
	"fmt"
	"testing"
	"time"
)

// candidates returns n candidates in tier 1 with a little history.
func candidates(n int) []Candidate {
	all := make([]Candidate, n)
	for i := range all {
		node := NewNode(fmt.Sprintf("10.0.0.%d:8080", i))
		node.latency.set(time.Second, 0.030+0.001*float64(i%7))
		all[i] = Candidate{Node: node, Weight: 1, Tier: 1}
	}
	return all
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{4, 16, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := candidates(n)
			balancer := New(Options{Breaker: Breaker{Failures: 5}})
			var a Attempt
			now := time.Second
			b.ReportAllocs()
			for b.Loop() {
				now += time.Microsecond
				balancer.Pick(now, all, &a)
				a.End(now)
			}
		})
	}
}

// All cores at once, as a proxy under load: picks of a pool exclude one another.
func BenchmarkPickContended(b *testing.B) {
	all := candidates(16)
	balancer := New(Options{Breaker: Breaker{Failures: 5}})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var a Attempt
		now := time.Second
		for pb.Next() {
			now += time.Microsecond
			balancer.Pick(now, all, &a)
			a.Answer(now, Served, 0)
			a.End(now)
		}
	})
}

// The choice alone, without reserving a place and giving it back.
func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{4, 16, 64, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all := candidates(n)
			balancer := New(Options{Breaker: Breaker{Failures: 5}})
			now := time.Second
			b.ReportAllocs()
			for b.Loop() {
				now += time.Microsecond
				balancer.mu.Lock()
				balancer.choose(now, all, false)
				balancer.mu.Unlock()
			}
		})
	}
}
