package gpustatus

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpustatus/nodeagent"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
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

func TestTheDocumentationIsTrue(t *testing.T) {
	data, err := os.ReadFile("../../docs/gpu_status.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(data)
	block := func(language string) string {
		_, rest, _ := strings.Cut(doc, "```"+language+"\n")
		text, _, _ := strings.Cut(rest, "```")
		return text
	}
	adapted, err := caddyrun.Adapt(block("caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Apps struct {
			HTTP struct {
				Servers map[string]struct {
					Routes []struct{ Handle []map[string]any }
				}
			}
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	var documented map[string]any
	if err := json.Unmarshal([]byte(block("json")), &documented); err != nil {
		t.Fatal(err)
	}
	if handler := config.Apps.HTTP.Servers["srv0"].Routes[0].Handle[0]; !reflect.DeepEqual(handler, documented) {
		t.Errorf("the Caddyfile is %v, the JSON %v", handler, documented)
	}
	for _, site := range regexp.MustCompile("(?s)```\n((?::|gateway).*?)```").FindAllStringSubmatch(doc, -1) {
		if _, err := caddyrun.Adapt(site[1]); err != nil {
			t.Errorf("%v in\n%s", err, site[1])
		}
	}
	report := reflect.TypeFor[nodeagent.Report]()
	for _, part := range []reflect.Type{report, report.Field(0).Type, reflect.TypeFor[gpuprobe.DeviceReport]()} {
		for field := range part.Fields() {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if key != "" && !strings.Contains(doc, "`"+key+"`") {
				t.Errorf("key %s is not documented", key)
			}
		}
	}
	descs := make(chan *prometheus.Desc, 100)
	new(nodeagent.Agent).Describe(descs)
	close(descs)
	for d := range descs {
		name := strings.Split(d.String(), `"`)[1]
		if !strings.Contains(doc, "`"+name+"`") {
			t.Errorf("metric %s is not documented", name)
		}
	}
}
