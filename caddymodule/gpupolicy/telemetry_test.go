package gpupolicy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// teller is what a node says of itself; tests change it while it is asked.
type teller struct {
	*httptest.Server
	mu     sync.Mutex
	report map[string]any
	broken bool
	asked  int
}

func newTeller(t testing.TB, report map[string]any) *teller {
	s := &teller{report: report}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked++
		if s.broken {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(s.report)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *teller) say(key string, v any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report[key] = v
}

func (s *teller) breaks(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// told returns a gateway whose nodes are asked at /status of their own port:
// each node's answers come from its teller.
func told(t testing.TB, options string, nodes map[*upstream]*teller) string {
	var all []*upstream
	for u, s := range nodes {
		u.answers(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/status" {
				s.Config.Handler.ServeHTTP(w, r)
				return
			}
			time.Sleep(2 * time.Millisecond)
			fmt.Fprint(w, u.addr)
		})
		all = append(all, u)
	}
	return proxy("{\n\ttelemetry json http://{node.host}:{node.port}/status\n\tinterval 100ms\n"+options+"\n}", all...)
}

func nodeStatus(t testing.TB, u *upstream) Status {
	s, err := Node(u.addr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTelemetryIsShownPerNode(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	nodes := map[*upstream]*teller{
		a: newTeller(t, map[string]any{"gpu_utilization_percent": 40, "model": "ner", "devices": []any{map[string]any{"uuid": "GPU-1", "memory_used_bytes": 1 << 30, "memory_total_bytes": 4 << 30, "temperature_c": 61}}}),
		b: newTeller(t, map[string]any{"gpu_utilization_percent": 5, "queue": 2}),
	}
	c := caddyrun.Start(t, told(t, "", nodes)+"http://ADDR_METRICS {\n\tmetrics\n}\n")
	eventually(t, "both nodes to have told", func() bool {
		return nodeStatus(t, a).Telemetry.AgeSeconds != nil && nodeStatus(t, b).Telemetry.AgeSeconds != nil
	})
	s := nodeStatus(t, a).Telemetry
	if v, _ := s.GPUUtilizationPercent.Get(); v != 40 || s.Model != "ner" || s.Stale || len(s.Errors) != 0 || *s.AgeSeconds > 60 {
		t.Errorf("%+v", s)
	}
	if v, _ := nodeStatus(t, b).Telemetry.Queue.Get(); v != 2 {
		t.Errorf("queue %v", v)
	}
	text := fetch(client(t), c.URL("METRICS")).body
	for _, want := range []string{
		fmt.Sprintf("caddy_gpu_utilization_ratio{node=%q} 0.4\n", a.addr),
		fmt.Sprintf("caddy_gpu_memory_used_bytes{node=%q} 1.073741824e+09\n", a.addr),
		fmt.Sprintf("caddy_gpu_memory_total_bytes{node=%q} 4.294967296e+09\n", a.addr),
		fmt.Sprintf("caddy_gpu_temperature_celsius{node=%q} 61\n", a.addr),
		fmt.Sprintf("caddy_gpu_utilization_ratio{node=%q} 0.05\n", b.addr),
		fmt.Sprintf("caddy_gpu_telemetry_age_seconds{node=%q} ", b.addr),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, gpuLines(text))
		}
	}
	if strings.Contains(text, fmt.Sprintf("caddy_gpu_temperature_celsius{node=%q}", b.addr)) {
		t.Error("a temperature that nobody told")
	}
}

// share is the part of n requests, one after the other, that the node got.
func share(t testing.TB, url string, u *upstream, n int) float64 {
	cl, got := client(t), 0
	for range n {
		if fetch(cl, url).body == u.addr {
			got++
		}
	}
	return float64(got) / float64(n)
}

func TestBusyGPUSheds(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	busy := newTeller(t, map[string]any{"gpu_utilization_percent": 0})
	c := caddyrun.Start(t, told(t, "", map[*upstream]*teller{a: busy, b: newTeller(t, map[string]any{"gpu_utilization_percent": 0})}))
	eventually(t, "a node with an idle GPU to be used", func() bool { return share(t, c.URL("GW"), a, 50) > 0.2 })
	busy.say("gpu_utilization_percent", 97)
	eventually(t, "load to move away from a GPU that others keep busy", func() bool {
		return share(t, c.URL("GW"), a, 50) < 0.1
	})
	busy.say("gpu_utilization_percent", 0)
	eventually(t, "load to return", func() bool { return share(t, c.URL("GW"), a, 50) > 0.2 })
}

func TestNodeBeyondItsLimitIsAvoided(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	full := newTeller(t, map[string]any{"gpu_usage_percent": 50})
	c := caddyrun.Start(t, told(t, "avoid_when gpu_memory 85%", map[*upstream]*teller{a: full, b: newTeller(t, map[string]any{"gpu_usage_percent": 50})}))
	full.say("gpu_usage_percent", 91)
	eventually(t, "the node to be avoided", func() bool { return nodeStatus(t, a).State == "avoided" })
	if why := nodeStatus(t, a).Reason; why != "gpu_memory 91% (limit 85%)" {
		t.Errorf("reason %q", why)
	}
	if got := share(t, c.URL("GW"), a, 100); got != 0 {
		t.Errorf("the avoided node gets %.0f %%", 100*got)
	}
	// A reload must not put it back to work.
	c.Reload(told(t, "avoid_when gpu_memory 85%\nshed_at 80%", map[*upstream]*teller{a: full, b: newTeller(t, map[string]any{})}))
	if s := nodeStatus(t, a).State; s != "avoided" {
		t.Errorf("after a reload the node is %s", s)
	}
	if got := share(t, c.URL("GW"), a, 50); got != 0 {
		t.Errorf("after a reload the avoided node gets %.0f %%", 100*got)
	}
}

func TestNodeThatSaysItCannotServeIsAvoided(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	sick := newTeller(t, map[string]any{"api_healthy": true, "overall_healthy": false}) // its page is down, not its API
	c := caddyrun.Start(t, told(t, "", map[*upstream]*teller{a: sick, b: newTeller(t, map[string]any{"overall_healthy": true})}))
	eventually(t, "the node to have told", func() bool { return nodeStatus(t, a).Telemetry.AgeSeconds != nil })
	if s := nodeStatus(t, a).State; s != "up" {
		t.Errorf("a node whose API is well is %s", s)
	}
	sick.say("api_healthy", false)
	eventually(t, "the node to be avoided", func() bool { return nodeStatus(t, a).State == "avoided" })
	if got := share(t, c.URL("GW"), a, 50); got != 0 {
		t.Errorf("the avoided node gets %.0f %%", 100*got)
	}
	sick.say("api_healthy", true)
	eventually(t, "the node to be back", func() bool { return nodeStatus(t, a).State == "up" })
}

func TestUnreadableTelemetryIsAWarningAndCostsNothing(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	mute := newTeller(t, map[string]any{"queue": 0})
	mute.breaks(true)
	c := caddyrun.Start(t, told(t, "", map[*upstream]*teller{a: mute, b: newTeller(t, map[string]any{"queue": 0})}))
	if r := fetch(client(t), c.URL("GW")); r.status != 200 {
		t.Errorf("status %d", r.status)
	}
	eventually(t, "a warning", func() bool { return strings.Contains(c.Log(), "telemetry can't be read") })
	if errs := nodeStatus(t, a).Telemetry.Errors; len(errs) != 1 || !strings.Contains(errs[0], "500") {
		t.Errorf("errors %v", errs)
	}
	eventually(t, "a node without readable telemetry to be used", func() bool { return share(t, c.URL("GW"), a, 50) > 0.1 })
	mute.breaks(false)
	eventually(t, "it to be read again", func() bool { return strings.Contains(c.Log(), "telemetry is read again") })
	if n := strings.Count(c.Log(), "telemetry can't be read"); n != 1 {
		t.Errorf("%d warnings, want one per outage", n)
	}
}

func TestDifferentModelsAreAWarning(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	second := newTeller(t, map[string]any{"model_digest": "sha256:a"})
	c := caddyrun.Start(t, told(t, "", map[*upstream]*teller{a: newTeller(t, map[string]any{"model_digest": "sha256:a"}), b: second}))
	eventually(t, "both to have told", func() bool {
		return nodeStatus(t, a).Telemetry.ModelDigest != "" && nodeStatus(t, b).Telemetry.ModelDigest != ""
	})
	if strings.Contains(c.Log(), "different models") || len(nodeStatus(t, a).Warnings) != 0 {
		t.Error("warned of nodes that serve one model")
	}
	second.say("model_digest", "sha256:b")
	eventually(t, "a warning", func() bool { return len(nodeStatus(t, a).Warnings) == 1 && len(nodeStatus(t, b).Warnings) == 1 })
	if log := c.Log(); !strings.Contains(log, "different models") || !strings.Contains(log, "sha256:b") {
		t.Error("no warning in the log")
	}
}

// One poller reads a node, however many handlers and configurations name it,
// and it is gone with the last.
func TestNodeIsAskedOncePerInterval(t *testing.T) {
	a := newUpstream(t)
	s := newTeller(t, map[string]any{"queue": 1})
	one := told(t, "", map[*upstream]*teller{a: s})
	all := one
	for i := range 5 {
		all += strings.Replace(one, "ADDR_GW", fmt.Sprintf("ADDR_GW%d", i), 1)
	}
	c := caddyrun.Start(t, all)
	for range 5 {
		c.Reload(all)
	}
	asked := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.asked }
	before, began := asked(), time.Now()
	time.Sleep(time.Second)
	if got, most := asked()-before, int(time.Since(began)/(90*time.Millisecond))+2; got > most {
		t.Errorf("asked %d times in %v, want about 10", got, time.Since(began))
	}
	c.Reload("http://ADDR_GW {\n\trespond ok\n}")
	time.Sleep(200 * time.Millisecond) // a reading under way ends
	before = asked()
	time.Sleep(500 * time.Millisecond)
	if got := asked() - before; got != 0 {
		t.Errorf("asked %d times after the last handler went", got)
	}
}

func TestResponsesTellByORCA(t *testing.T) {
	a, b := newUpstream(t), newUpstream(t)
	a.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Endpoint-Load-Metrics-Format") == "" {
			t.Error("the node was not asked for a report")
		}
		w.Header().Set("Endpoint-Load-Metrics", "TEXT named_metrics.num_requests_waiting:7,named_metrics.kv_cache_usage_perc:0.5")
		fmt.Fprint(w, a.addr)
	})
	c := caddyrun.Start(t, proxy("{\n\ttelemetry orca\n}", a, b))
	cl := client(t)
	eventually(t, "a report", func() bool {
		fetch(cl, c.URL("GW"))
		return nodeStatus(t, a).Telemetry.AgeSeconds != nil
	})
	if q, _ := nodeStatus(t, a).Telemetry.Queue.Get(); q != 7 {
		t.Errorf("queue %v", q)
	}
	resp, err := cl.Get(c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Endpoint-Load-Metrics") != "" {
		t.Error("the report was passed on to a client that did not ask")
	}
}

func TestOneNodePerGPU(t *testing.T) {
	s := gpuprobe.Sample{Devices: []gpuprobe.Device{
		{Index: gpuprobe.Some(0), UUID: "GPU-a", Utilization: gpuprobe.Some(0.9)},
		{Index: gpuprobe.Some(1), UUID: "GPU-b", Utilization: gpuprobe.Some(0.1)},
	}}
	tel := Telemetry{Config: gpuprobe.Config{Kind: "dcgm"}, Devices: map[string]string{"10.0.0.1:8081": "0", "http://10.0.0.1:8082": "GPU-b", "10.0.0.1:8083": "7"}}
	for dial, want := range map[string]float64{"10.0.0.1:8081": 0.9, "10.0.0.1:8082": 0.1, "10.0.0.1:8084": 0.9} {
		of, err := tel.device(dial, s)
		if got, _ := of.GPUUtilization().Get(); err != nil || got != want {
			t.Errorf("%s: %g, %v, want %g", dial, got, err, want)
		}
	}
	if _, err := tel.device("10.0.0.1:8083", s); err == nil {
		t.Error("a device that is not there is no error")
	}
}

func TestAddressesOfTelemetry(t *testing.T) {
	for _, test := range []struct{ kind, address, dial, want string }{
		{"dcgm", "http://{node.host}:9400/metrics", "10.0.0.1:8081", "http://10.0.0.1:9400/metrics"},
		{"dcgm", "http://{node.host}:9400/metrics", "[2001:db8::1]:8081", "http://[2001:db8::1]:9400/metrics"},
		{"dcgm", "", "10.0.0.1:8081", "10.0.0.1"},
		{"dcgm", "", "[2001:db8::1]:8081", "[2001:db8::1]"},
		{"json", "{node.address}/gpu/status", "node-a:8081", "node-a:8081/gpu/status"},
		{"vllm", "", "node-a:8000", "node-a:8000"},
		{"push", "", "node-a:8000", "node-a:8000"},
		{"agent_check", "{node.host}:9777", "10.0.0.1:8081", "10.0.0.1:9777"},
		{"nvml", "", "127.0.0.1:8081", ""},
	} {
		tel := Telemetry{Config: gpuprobe.Config{Kind: test.kind, Address: test.address}}
		if got := tel.config(test.dial).Address; got != test.want {
			t.Errorf("%s %q at %s: %q, want %q", test.kind, test.address, test.dial, got, test.want)
		}
	}
}

func TestThisHostsGPUsAreNotThoseOfOtherHosts(t *testing.T) {
	tel := Telemetry{Config: gpuprobe.Config{Kind: "nvidia_smi"}}
	for dial, want := range map[string]bool{"127.0.0.1:80": true, "[::1]:80": true, "localhost:80": true, "unix//run/a.sock": true, "192.0.2.1:80": false, "node-b:80": false} {
		if got := tel.of(dial); got != want {
			t.Errorf("%s: %v", dial, got)
		}
	}
	c := caddyrun.Start(t, "http://ADDR_GW {\n\treverse_proxy 192.0.2.1:80 {\n\t\tlb_policy gpu {\n\t\t\ttelemetry nvidia_smi\n\t\t}\n\t}\n}")
	if !strings.Contains(c.Log(), "no upstream is on this host") {
		t.Error("no warning")
	}
}

func TestOddConfigurationsAreWarnedOf(t *testing.T) {
	gw := func(name, options string) string {
		return "http://ADDR_" + name + " {\n\treverse_proxy 192.0.2.1:80 192.0.2.2:80 {\n\t\tlb_policy gpu {\n" + options + "\n\t\t}\n\t}\n}\n"
	}
	c := caddyrun.Start(t, gw("A", "weight 192.0.2.1:80 2")+gw("B", "weight 192.0.2.1:80 3\ntier 3 192.0.2.2:80"))
	if log := c.Log(); !strings.Contains(log, `"weights":[2,3]`) && !strings.Contains(log, `"weights":[3,2]`) { // in no certain order
		t.Error("no warning of different weights")
	}
	if !strings.Contains(c.Log(), `"empty_tier":2,"tiers":[1,3]`) {
		t.Error("no warning of an empty tier")
	}
	n := strings.Count(c.Log(), "two handlers give one node different")
	c.Reload(gw("A", "weight 192.0.2.1:80 5"))
	if strings.Count(c.Log(), "two handlers give one node different") != n {
		t.Error("a reload that changes a weight is taken for two handlers that disagree")
	}
}
