package gpupolicy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMetricsTellOfEveryNodeThroughReloads(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(500))
	one := proxy(ejectAtOnce, good, bad)
	config := one + strings.Replace(one, "ADDR_GW", "ADDR_OTHER", 1) + "http://ADDR_METRICS {\n\tmetrics\n}\n"
	c := caddyrun.Start(t, config)
	cl := client(t)
	eventually(t, "the failing node to be ejected", func() bool {
		fetch(cl, c.URL("GW"))
		return bad.state(t) == balance.Ejected
	})
	for range 2 {
		text := fetch(cl, c.URL("METRICS")).body
		for _, want := range []string{
			fmt.Sprintf("caddy_gpu_node_up{node=%q} 1\n", good.addr),
			fmt.Sprintf("caddy_gpu_node_up{node=%q} 0\n", bad.addr),
			fmt.Sprintf("caddy_gpu_in_flight{node=%q} 0\n", good.addr),
			fmt.Sprintf("caddy_gpu_ejections_total{node=%q} 1\n", bad.addr),
			fmt.Sprintf("caddy_gpu_state{node=%q,state=\"ejected\"} 1\n", bad.addr),
			fmt.Sprintf("caddy_gpu_state{node=%q,state=\"up\"} 1\n", good.addr),
			fmt.Sprintf("caddy_gpu_picks_total{node=%q,reason=\"best\"} %d\n", bad.addr, bad.node(t).Picks(balance.Best)),
			fmt.Sprintf("caddy_gpu_score{node=%q} ", good.addr),
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, gpuLines(text))
			}
		}
		c.Reload(config)
		cl.CloseIdleConnections()
	}
	if len(theCollector.live) != 2 {
		t.Errorf("%d policies are live, want those of the two handlers", len(theCollector.live))
	}
}

func gpuLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.Contains(line, "caddy_gpu_") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestOddAddressesDoNotBreakTheScrape(t *testing.T) {
	p := &Policy{balancer: balance.New(balance.Options{})}
	p.members.init(rules{}, nil, clock(), func(*member) {})
	p.members.dynamic["\xff"] = p.members.member("\xff", balance.NewNode("\xff"))
	ch := make(chan prometheus.Metric, 100)
	(&collector{live: []*Policy{p}}).Collect(ch)
	if len(ch) == 0 {
		t.Error("no metrics")
	}
}

func TestChangesOfStateAreCaddyEvents(t *testing.T) {
	good, bad := newUpstream(t), newUpstream(t)
	bad.answers(status(500))
	c := caddyrun.Start(t, "{\n\tevents {\n\t\ton gpu.node_state test_record\n\t}\n}\n"+proxy(ejectAtOnce, good, bad))
	cl := client(t)
	eventually(t, "the event", func() bool {
		fetch(cl, c.URL("GW"))
		for _, e := range recordedEvents(t) {
			if e["node"] == bad.addr && e["old"] == "up" && e["new"] == "ejected" && e["reason"] != "" {
				return true
			}
		}
		return false
	})
	for _, e := range recordedEvents(t) {
		if e["node"] == good.addr {
			t.Errorf("event %v about a node that is well", e)
		}
	}
}

func TestNoReverseProxyAroundThePolicy(t *testing.T) {
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if parent(ctx) != nil {
		t.Error("found a handler where there is none")
	}
}
