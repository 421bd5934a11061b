package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// report has every key from which a metric is made.
const report = `{
	"gpu_utilization_percent": 40, "gpu_usage_percent": 25, "cpu_percent": 12, "memory_percent": 30,
	"in_flight": 1, "queue": 2, "running": 1, "kv_cache_percent": 5, "model": "ner", "model_digest": "sha256:a",
	"api_healthy": true, "webui_healthy": true, "overall_healthy": true,
	"devices": [{"uuid": "GPU-1", "name": "NVIDIA T4", "index": 0, "utilization_percent": 40,
		"memory_used_bytes": 4294967296, "memory_total_bytes": 17179869184, "temperature_c": 61, "power_w": 70,
		"throttle_reasons": [], "xid": 0, "ecc_uncorrected": 0}]
}`

// A gateway and a node that have a value for each of their metrics.
const measured = `{
	metrics
	inference {
		model ner builtin/ner-zh
	}
}
http://ADDR_NODE {
	gpu_status /gpu/status {
		telemetry json REPORT
		interval 100ms
	}
	inference ner
}
http://ADDR_GW {
	reverse_proxy ADDR_NODE {
		lb_policy gpu {
			telemetry json http://{node.host}:{node.port}/gpu/status
			interval 100ms
		}
	}
}
http://ADDR_METRICS {
	metrics
}
`

// ours are the names that this project answers for; the page has Caddy's and
// Go's as well.
var ours = regexp.MustCompile(`^(# (HELP|TYPE) )?(caddy_gpu|caddy_inference|caddy_ner_highlight|gpu_node)_`)

// What Prometheus' own linter has to say of the metrics: nothing.
func TestMetricsAreCleanToPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed: apt-get install prometheus")
	}
	telemetry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, report) }))
	t.Cleanup(telemetry.Close)
	c := caddyrun.Start(t, strings.Replace(measured, "REPORT", telemetry.URL, 1))
	if a, _ := predict(t, c.URL("GW")); !a.has("PER", "马云") {
		t.Fatalf("the gateway answers %+v", a)
	}
	for url, names := range map[string]string{
		c.URL("METRICS"): `caddy_gpu_node_up caddy_gpu_in_flight caddy_gpu_score caddy_gpu_picks_total caddy_gpu_queue_length caddy_gpu_queue_wait_seconds caddy_gpu_shed_total caddy_gpu_ejections_total caddy_gpu_state
			caddy_gpu_utilization_ratio caddy_gpu_memory_used_bytes caddy_gpu_memory_total_bytes caddy_gpu_temperature_celsius
			caddy_gpu_telemetry_age_seconds caddy_inference_requests_total caddy_inference_duration_seconds caddy_inference_batch_size`,
		c.URL("NODE") + "/gpu/status": `gpu_node_healthy gpu_node_api_healthy gpu_node_webui_healthy gpu_node_draining gpu_node_weight_ratio
			gpu_node_measured_timestamp_seconds gpu_node_utilization_ratio gpu_node_memory_utilization_ratio gpu_node_cpu_utilization_ratio
			gpu_node_host_memory_utilization_ratio gpu_node_in_flight_requests gpu_node_queued_requests gpu_node_running_requests
			gpu_node_kv_cache_utilization_ratio gpu_node_model_info gpu_node_device_utilization_ratio gpu_node_device_memory_used_bytes
			gpu_node_device_memory_total_bytes gpu_node_device_temperature_celsius gpu_node_device_power_watts gpu_node_device_throttled
			gpu_node_device_last_xid gpu_node_device_ecc_uncorrected_errors_total`,
	} {
		page := scrape(t, url, strings.Fields(names))
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("%s: promtool check metrics: %v\n%s\nof\n%s", url, err, out, page)
		}
	}
}

// scrape returns our lines of a page once it has all metrics of these names:
// telemetry arrives a moment after the start.
func scrape(t *testing.T, url string, names []string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/plain")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", url, resp.Status, err)
		}
		var page strings.Builder
		for line := range strings.Lines(string(body)) {
			if ours.MatchString(line) {
				page.WriteString(line)
			}
		}
		var missing []string
		for _, name := range names {
			if !strings.Contains(page.String(), "# TYPE "+name+" ") {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return page.String()
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no %s in\n%s", url, strings.Join(missing, ", "), page.String())
		}
	}
}
