package gpustatus

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// runningNode is a Caddy with a gpu_status, and what that watches.
type runningNode struct {
	*caddyrun.Instance
	gpu        *gpu
	api, webui *service
}

// node runs a gpu_status of one GPU, an API and a WebUI.
func node(t *testing.T, options string) runningNode {
	t.Helper()
	g, api, webui := newGPU(t), newService(t), newService(t)
	c := caddyrun.Start(t, `http://ADDR_NODE {
	gpu_status {
		telemetry nvidia_smi `+g.program+`
		interval 100ms
		api `+api.URL+`/health
		webui `+webui.URL+`/
		`+options+`
	}
}`)
	eventually(t, "the node to be healthy", func() bool {
		a := fetch(t, "GET "+c.URL("NODE"))
		return a.status == 200 && len(a.report(t).Devices) == 1
	})
	return runningNode{c, g, api, webui}
}

func TestTheJSONHasTheKeysOfHealthScriptsAndMore(t *testing.T) {
	c := node(t, "model_path "+modelDir(t, "weights"))
	var a answer
	eventually(t, "the processors' use and the digest", func() bool {
		a = fetch(t, "GET "+c.URL("NODE"))
		return strings.Contains(a.body, `"cpu_percent"`) && strings.Contains(a.body, `"model_digest"`)
	})
	var keys map[string]any
	if err := json.Unmarshal([]byte(a.body), &keys); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"gpu_usage_percent": 25., "api_healthy": true, "webui_healthy": true, "overall_healthy": true,
		"gpu_utilization_percent": 40., "model": "model",
	} {
		if keys[key] != want {
			t.Errorf("%s is %v, want %v", key, keys[key], want)
		}
	}
	for _, key := range []string{"timestamp", "cpu_percent", "memory_percent", "model_digest", "devices", "agent"} {
		if keys[key] == nil {
			t.Errorf("no %s in %s", key, a.body)
		}
	}
	device := keys["devices"].([]any)[0].(map[string]any)
	for key, want := range map[string]any{
		"uuid": "GPU-a", "name": "NVIDIA T4", "utilization_percent": 40., "memory_used_bytes": float64(4 << 30),
		"memory_total_bytes": float64(16 << 30), "temperature_c": 51., "power_w": 201.5,
	} {
		if device[key] != want {
			t.Errorf("devices[0].%s is %v, want %v", key, device[key], want)
		}
	}
	if keys["notes"] != nil || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Vary") != "Accept" ||
		a.header.Get("Content-Type") != "application/json" {
		t.Errorf("notes %v, headers %v", keys["notes"], a.header)
	}
}

func modelDir(t *testing.T, weights string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), []byte(weights), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhatIsSaidParsesBackByEveryKindOfTelemetry(t *testing.T) {
	c := node(t, "agent_check ADDR_AGENT")
	addr := c.Addr("NODE")
	s := probe(t, gpuprobe.Config{Kind: "json", Address: addr})
	if s.GPUUtilization() != gpuprobe.Some(0.4) || s.GPUMemoryUtilization() != gpuprobe.Some(0.25) || s.TemperatureC() != gpuprobe.Some(51.) ||
		s.Healthy != gpuprobe.Some(true) || s.APIHealthy != gpuprobe.Some(true) || s.WebUIHealthy != gpuprobe.Some(true) {
		t.Errorf("json: %+v", s)
	}
	if age := time.Since(s.MeasuredAt); age > time.Minute {
		t.Errorf("json: measured %v ago", age)
	}
	s = probe(t, gpuprobe.Config{Kind: "prometheus", Address: addr, Mapping: map[string]string{
		"utilization": "gpu_node_device_utilization_ratio", "memory_used": "gpu_node_device_memory_used_bytes",
		"memory_total": "gpu_node_device_memory_total_bytes", "temperature": "gpu_node_device_temperature_celsius",
		"power": "gpu_node_device_power_watts", "healthy": "gpu_node_healthy", "measured_at": "gpu_node_measured_timestamp_seconds",
	}})
	if s.GPUUtilization() != gpuprobe.Some(0.4) || s.GPUMemoryUtilization() != gpuprobe.Some(0.25) || s.TemperatureC() != gpuprobe.Some(51.) ||
		s.Healthy != gpuprobe.Some(true) || s.Devices[0].UUID != "GPU-a" || s.Devices[0].PowerW != gpuprobe.Some(201.5) {
		t.Errorf("prometheus: %+v", s)
	}
	s = probe(t, gpuprobe.Config{Kind: "orca", Address: addr})
	if s.GPUUtilization() != gpuprobe.Some(0.4) || s.GPUMemoryUtilization() != gpuprobe.Some(0.25) {
		t.Errorf("orca: %+v", s)
	}
	s = probe(t, gpuprobe.Config{Kind: "agent_check", Address: c.Addr("AGENT")})
	if s.Agent != (gpuprobe.Agent{State: "up", Admin: "ready", WeightShare: gpuprobe.Some(1.)}) {
		t.Errorf("agent_check: %+v", s.Agent)
	}
}

func TestAnUnhealthyNodeSays503AndWhy(t *testing.T) {
	c := node(t, "")
	g, api, webui := c.gpu, c.api, c.webui
	says := func(what, note string) {
		t.Helper()
		var a answer
		eventually(t, what, func() bool {
			a = fetch(t, "GET "+c.URL("NODE"))
			return a.status == 503
		})
		if r := a.report(t); r.OverallHealthy != gpuprobe.Some(false) || !strings.Contains(strings.Join(r.Notes, "\n"), note) {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	heals := func() {
		t.Helper()
		eventually(t, "the node to be well again", func() bool { return fetch(t, "GET "+c.URL("NODE")).status == 200 })
	}
	api.status.Store(500)
	says("a failing API", "api: status 500")
	api.status.Store(200)
	heals()
	webui.says(`{"status":"unhealthy"}`)
	says("a WebUI that is not well", "webui: it says status: unhealthy")
	webui.says(`<html>`)
	heals()
	g.set(40, 14000)
	says("a full GPU", "gpu memory: 85 % used, the limit is 85 %")
	g.set(40, 13000)
	heals()
	api.Close()
	says("an API that is gone", "api: ")
}

func TestANodeWithoutAGPUSaysSoAndIsNotIll(t *testing.T) {
	api := newService(t)
	c := caddyrun.Start(t, `http://ADDR_NODE {
	gpu_status {
		telemetry nvidia_smi /nowhere/nvidia-smi
		interval 100ms
		api `+api.URL+`
	}
}`)
	var a answer
	eventually(t, "health and the reason", func() bool {
		a = fetch(t, "GET "+c.URL("NODE"))
		return a.status == 200 && strings.Contains(a.body, "is the NVIDIA driver installed?")
	})
	for _, key := range []string{"gpu_usage_percent", "gpu_utilization_percent", "webui_healthy"} {
		if strings.Contains(a.body, key) {
			t.Errorf("%s in %s", key, a.body)
		}
	}
}

func TestTheDefaultsReadThisHost(t *testing.T) {
	c := caddyrun.Start(t, "http://ADDR_NODE {\n\tgpu_status\n}")
	eventually(t, "GPUs, or why there are none", func() bool {
		r := fetch(t, "GET "+c.URL("NODE")).report(t)
		return len(r.Devices) > 0 || strings.Contains(strings.Join(r.Notes, " "), "nvidia_smi: ")
	})
}

func TestNoRequestWaitsForASourceThatHangs(t *testing.T) {
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(slow.Close) // after Caddy, which is waiting for it
	c := caddyrun.Start(t, `http://ADDR_NODE {
	gpu_status {
		telemetry json `+slow.URL+`
		api `+slow.URL+`
		timeout 1m
	}
}`)
	for _, accept := range []string{"application/json", "text/plain"} {
		a := fetch(t, "GET "+c.URL("NODE"), "Accept: "+accept)
		if accept == "text/plain" {
			if a.status != 200 || !strings.Contains(a.body, "gpu_node_healthy 0\n") {
				t.Errorf("%+v", a)
			}
		} else if a.status != 503 || !strings.Contains(a.body, "api: not asked yet") {
			t.Errorf("%+v", a)
		}
	}
}

func TestOnlyGETAndHEAD(t *testing.T) {
	c := node(t, "")
	a := fetch(t, "HEAD "+c.URL("NODE"))
	if a.status != 200 || a.body != "" || a.header.Get("Content-Length") == "" {
		t.Errorf("%+v", a)
	}
	a = fetch(t, "POST "+c.URL("NODE"))
	if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" || !strings.Contains(a.body, `{"error":`) {
		t.Errorf("%+v", a)
	}
}

func TestTheClientChoosesTheForm(t *testing.T) {
	c := node(t, "")
	for accept, want := range map[string]string{
		"":                                  "application/json",
		"*/*":                               "application/json",
		"application/json, text/plain;q=.9": "application/json",
		"text/plain;q=0.5, application/json;q=0.1":                        "text/plain",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "application/json",
		"text/plain": "text/plain",
		"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=.1": "application/openmetrics-text",
		"image/png":                         "application/json",
		strings.Repeat("text/plain,", 1000): "application/json",
	} {
		if got := fetch(t, "GET "+c.URL("NODE"), "Accept: "+accept).header.Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("%.80q gets %s, want %s", accept, got, want)
		}
	}
	// A scrape must not fail because the node is ill: that is when it is wanted.
	c.api.status.Store(500)
	eventually(t, "the metrics to tell", func() bool {
		a := fetch(t, "GET "+c.URL("NODE"), "Accept: text/plain")
		return a.status == 200 && strings.Contains(a.body, "gpu_node_healthy 0\n") && strings.Contains(a.body, "gpu_node_api_healthy 0\n")
	})
}

func TestTheMetricsAreAsPrometheusWantsThem(t *testing.T) {
	c := node(t, "model_path "+modelDir(t, "weights"))
	page := fetch(t, "GET "+c.URL("NODE"), "Accept: text/plain").body
	problems, err := promlint.New(bytes.NewReader([]byte(page))).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
	for _, want := range []string{
		`gpu_node_device_utilization_ratio{gpu_instance_id="",index="0",name="NVIDIA T4",uuid="GPU-a"} 0.4`,
		"gpu_node_weight_ratio 1\n", "gpu_node_healthy 1\n",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	if strings.Contains(page, "caddy_") {
		t.Error("the names are the gateway's")
	}
}

func TestAFileDrainsTheNode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "drain")
	c := node(t, "drain_file "+file+"\nagent_check ADDR_AGENT")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drain", func() bool {
		a := fetch(t, "GET "+c.URL("NODE"))
		return a.status == 503 && strings.Contains(a.body, `"draining":true`) &&
			probe(t, gpuprobe.Config{Kind: "agent_check", Address: c.Addr("AGENT")}).Agent.Admin == "drain"
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its end", func() bool {
		return fetch(t, "GET "+c.URL("NODE")).status == 200 &&
			probe(t, gpuprobe.Config{Kind: "agent_check", Address: c.Addr("AGENT")}).Agent.Admin == "ready"
	})
}

func TestModelsOfThisProcessAreCounted(t *testing.T) {
	c := caddyrun.Start(t, `{
	inference {
		model mood builtin/sentiment-zh
	}
}
http://ADDR_ALL {
	gpu_status {
		telemetry off
	}
}
http://ADDR_NAMED {
	gpu_status {
		telemetry off
		model mood
	}
}
http://ADDR_OTHER {
	gpu_status {
		telemetry off
		model builtin/ner-zh
	}
}`)
	var all, named answer
	eventually(t, "the models that were loaded after the agents began", func() bool {
		all, named = fetch(t, "GET "+c.URL("ALL")), fetch(t, "GET "+c.URL("NAMED"))
		return all.report(t).InFlight.Known() && named.report(t).InFlight.Known()
	})
	if r := all.report(t); r.Model != "builtin/sentiment-zh" || !strings.HasPrefix(r.ModelDigest, "sha256:") ||
		r.InFlight != gpuprobe.Some(0.) || r.Queue != gpuprobe.Some(0.) || r.OverallHealthy != gpuprobe.Some(true) {
		t.Errorf("%s", all.body)
	}
	if r := named.report(t); r.Model != "mood" || r.ModelDigest != all.report(t).ModelDigest || !r.InFlight.Known() {
		t.Errorf("%s", named.body)
	}
	// That one is in no handler, so nothing can be counted.
	if r := fetch(t, "GET "+c.URL("OTHER")).report(t); r.Model != "builtin/ner-zh" || r.InFlight.Known() || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}
	if err := c.Load("http://ADDR_ALL {\n\tgpu_status {\n\t\tmodel nonsense\n\t}\n}"); err == nil || !strings.Contains(err.Error(), `unknown model "nonsense"`) {
		t.Errorf("error %v", err)
	}
}

func TestAReloadForgetsNothing(t *testing.T) {
	c := node(t, "")
	g, api := c.gpu, c.api
	config := `http://ADDR_NODE {
	gpu_status {
		telemetry nvidia_smi ` + g.program + `
		interval 100ms
		api ` + api.URL + `
	}
}`
	// A server that is shutting down may still answer, so each configuration
	// says which one it is.
	as := func(name string) string {
		return strings.Replace(config, "gpu_status {", "header X-Config "+name+"\n\tgpu_status {", 1)
	}
	says := func(name string) (a answer) {
		t.Helper()
		eventually(t, "an answer of the configuration "+name, func() bool {
			http.DefaultClient.CloseIdleConnections()
			a = fetch(t, "GET "+c.URL("NODE"))
			return a.header.Get("X-Config") == name
		})
		return a
	}
	c.Reload(as("first"))
	eventually(t, "the new configuration's health", func() bool { return says("first").status == 200 })
	c.Reload(as("second"))
	if a := says("second"); a.status != 200 {
		t.Errorf("%+v", a)
	}
}
