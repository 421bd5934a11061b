package gpustatus

import (
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestAdapt(t *testing.T) { caddyrun.Golden(t, "testdata/adapt") }

// Whatever the Caddyfile accepts must also be in range for JSON's checks.
func FuzzUnmarshalCaddyfile(f *testing.F) {
	f.Add("gpu_status {\ntelemetry dcgm 127.0.0.1 {\n}\ntelemetry json h:1 {\nmap queue a.b * 2\n}\ninterval 1s\napi http://h\nmemory_limit off\nagent_check :1 webui\norca\n}")
	f.Add("gpu_status {\ntelemetry off\nshed_at 75%\nmemory_limit 1e2%\npush https://a:b@h/x\nmodel m\nmodel_path /d\ndrain_file f\ntimeout 1m\n}")
	f.Add("gpu_push {\nmax_body 1KB\n}")
	f.Fuzz(func(t *testing.T, text string) {
		// Not NewTestDispenser, which ends the process on a bad token.
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil {
			return
		}
		s := new(Status)
		if s.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)) == nil {
			s.setDefaults()
			if err := s.check(); err != nil {
				t.Fatalf("accepted by the Caddyfile only: %v", err)
			}
			for _, c := range s.options().Telemetry {
				if err := checkSource(c); err != nil {
					t.Fatalf("accepted by the Caddyfile only: %v", err)
				}
			}
		}
		p := new(Push)
		if p.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)) == nil {
			if p.Provision(caddy.Context{}) != nil || p.Validate() != nil || p.MaxBody <= 0 {
				t.Fatalf("max_body %d", p.MaxBody)
			}
		}
	})
}
