package gpupolicy

import (
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestAdapt(t *testing.T) { caddyrun.Golden(t, "testdata/adapt") }

// Whatever is accepted must also be in range for the balance core.
func FuzzUnmarshalCaddyfile(f *testing.F) {
	f.Add("gpu {\nweight a:1 2\ntier 2 b:1 10.0.0.0/8\nslow_start 30s\neject 5 failures\nspill 140%\n}")
	f.Add("gpu {\nweight a 1e308\ntier -1 b\nslow_start off\neject off\nspill Inf%\n}")
	f.Add("gpu {\ntelemetry dcgm http://{node.host}:9400/metrics {\ndevice a:1 0\n}\ntelemetry prometheus {\nmap queue q * 2\n}\ninterval 2s\nshed_at 75%\navoid_when queue 9\nmax_in_flight auto\nqueue 10 1s {x}\navoid_when gpu_memory 85%\n}")
	f.Add("gpu {\nretry_budget 20% 10\nhedge off\n}")
	f.Add("gpu {\ntier 1 10.0.0.0/99 :80 [::1]:80 http://a unix//run/a.sock {x}\n}")
	f.Add("gpu {\nsticky cookie a {\nsecret {env.X}\npath /\nsame_site none\n}\n}")
	f.Fuzz(func(t *testing.T, text string) {
		// Not NewTestDispenser, which ends the process on a bad token.
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		p := new(Policy)
		if p.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatalf("accepted by the Caddyfile, not by Validate: %v", err)
		}
		r, err := p.rules()
		if err != nil {
			return // a bad CIDR
		}
		for addr := range p.Weights {
			meets("10.0.0.1:80", addr)
			if w := r.weight(canonical(addr)); !(w > 0) {
				t.Fatalf("weight %g", w)
			}
		}
		for addr := range p.Tiers {
			meets("10.0.0.1:80", addr)
			if tier := r.tier(canonical(addr)); tier < 1 || tier > 16 {
				t.Fatalf("tier %d", tier)
			}
		}
	})
}
