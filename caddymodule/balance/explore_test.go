package balance

import (
	"fmt"
	"testing"
	"time"
)

func med(f func(seed uint64) time.Duration) string {
	var v []time.Duration
	for s := uint64(1); s <= 5; s++ { v = append(v, f(s)) }
	for i := range v { for j := i+1; j < len(v); j++ { if v[j]<v[i] { v[i],v[j]=v[j],v[i] } } }
	return fmt.Sprintf("%6.1f (%.0f-%.0f)", v[2].Seconds()*1000, v[0].Seconds()*1000, v[4].Seconds()*1000)
}

func TestExplore(t *testing.T) {
	pols := map[string]func(*simulation,int) policy{"omni":newOmniscient,"gpu":newGPU,"lc":newLeastConn}
	for _, gw := range []int{1,4} {
	for _, rate := range []float64{278, 357} {
	for name, p := range pols {
		t.Logf("het gw%d rate %v %s p99 %s", gw, rate, name, med(func(seed uint64) time.Duration {
			return simulate(scenario{nodes: unequal(), rate: rate, length: 2*time.Minute, gateways: gw, seed: seed}, p).percentile(99, 10*sec, 2*time.Minute)}))
	}
	t.Logf("het gw%d rate %v weighted p99 %s", gw, rate, med(func(seed uint64) time.Duration {
		s := scenario{nodes: unequal(), rate: rate, length: 2*time.Minute, gateways: gw, seed: seed}
		for i, w := range []float64{25, 25, 80, 267} { s.nodes[i].weight = w }
		return simulate(s, newGPU).percentile(99, 10*sec, 2*time.Minute)}))
	}}
	// issue 4: 20ms 2 slots, 1x 2x 4x
	for name, p := range pols {
		t.Logf("1x2x4x %s p99 %s", name, med(func(seed uint64) time.Duration {
			return simulate(scenario{nodes: []simNode{{slots:2,service:20*ms},{slots:2,service:40*ms},{slots:2,service:80*ms}}, rate: 110, length: 2*time.Minute, seed: seed}, p).percentile(99, 10*sec, 2*time.Minute)}))
		t.Logf("cotenant %s p99 %s", name, med(func(seed uint64) time.Duration {
			n := []simNode{{slots:2,service:20*ms},{slots:2,service:20*ms},{slots:2,service:20*ms}}
			n[0].cotenant = func(now time.Duration) float64 { if now > 30*sec && now < 90*sec {return .85}; return 0}
			return simulate(scenario{nodes: n, rate: 150, length: 2*time.Minute, seed: seed}, p).percentile(99, 30*sec, 90*sec)}))
	}
}
