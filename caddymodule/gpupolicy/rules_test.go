package gpupolicy

import (
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestRulesFindTheirAddresses(t *testing.T) {
	p := &Policy{
		Weights: map[string]float64{"http://10.0.0.1": 2, "[::1]:8080": 3, "https://node": 4, "unix//run/a.sock": 5},
		Tiers:   map[string]int{"10.0.0.0/8": 2, "10.1.0.0/16": 3, "10.1.0.7:80": 4, "::/0": 5},
	}
	r, err := p.rules()
	if err != nil {
		t.Fatal(err)
	}
	for dial, want := range map[string]float64{
		"10.0.0.1:80": 2, "[::1]:8080": 3, "node:443": 4, "unix//run/a.sock": 5, "10.0.0.1:81": 1,
	} {
		if got := r.weight(dial); got != want {
			t.Errorf("weight of %s: %g, want %g", dial, got, want)
		}
	}
	for dial, want := range map[string]int{
		"10.0.0.1:80": 2, "10.1.2.3:80": 3, "10.1.0.7:80": 4, "[2001:db8::1]:80": 5, "192.0.2.1:80": 1, "node:80": 1,
	} {
		if got := r.tier(dial); got != want {
			t.Errorf("tier of %s: %d, want %d", dial, got, want)
		}
	}
}

func TestRuleThatNoUpstreamMeetsIsAnError(t *testing.T) {
	c := caddyrun.Start(t, "http://ADDR_GW {\n\trespond ok\n}")
	for option, want := range map[string]string{
		"weight 10.0.0.9:8081 2":                  "weight 10.0.0.9:8081 (Caddyfile:4): no upstream of this reverse_proxy has this address; it has 10.0.0.1:8081, node:80",
		"tier 2 10.0.0.9:8081":                    "tier 10.0.0.9:8081 (Caddyfile:4): no upstream",
		"tier 2 10.9.0.0/16":                      "tier 10.9.0.0/16 (Caddyfile:4): no upstream",
		"tier 2 10.0.0.0/33":                      "tier of 10.0.0.0/33: parsing CIDR",
		"weight 10.0.0.1:8081 2\n tier 2 node":    "",
		"tier 2 10.0.0.0/24\n tier 3 http://node": "",
	} {
		err := c.Load("http://ADDR_GW {\n\treverse_proxy 10.0.0.1:8081 http://node {\n\t\tlb_policy gpu {\n\t\t\t" + option + "\n\t\t}\n\t}\n}\n")
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", option, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: error %v, want %q", option, err, want)
		}
	}
}

func TestRuleForADynamicUpstreamIsAWarning(t *testing.T) {
	c := caddyrun.Start(t, `http://ADDR_GW {
	reverse_proxy {
		dynamic a node.invalid 8081
		lb_policy gpu {
			weight 10.0.0.9:8081 2
		}
	}
}`)
	if log := c.Log(); !strings.Contains(log, "weight 10.0.0.9:8081") || !strings.Contains(log, `"level":"warn"`) {
		t.Error("no warning in the log")
	}
}
