package gpuadmin

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// run is `caddy gpu` on a host with the given sources.
func run(ctx context.Context, out io.Writer, host []gpuprobe.Config, args ...string) error {
	cmd := &cobra.Command{Use: "gpu", SilenceUsage: true, SilenceErrors: true}
	cmd.AddCommand(probeCommand(host))
	cmd.SetOut(out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	return cmd.ExecuteContext(ctx)
}

// smi stands in for nvidia-smi.
func smi(t *testing.T, script string) []gpuprobe.Config {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for nvidia-smi is a shell script")
	}
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	missing := gpuprobe.Config{Kind: "nvidia_smi", Address: filepath.Join(t.TempDir(), "missing")}
	return []gpuprobe.Config{missing, {Kind: "nvidia_smi", Address: path}}
}

const oneGPU = "echo '0, GPU-a, 45, 10240, 40960, 51, 201.53, 0, 0x0000000000000044, NVIDIA A100'; exec sleep 60"

func TestProbeShowsThisHostsGPUs(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, smi(t, oneGPU), "probe"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NVIDIA A100", "████▌░░░░░  45 %", "10 GiB of 40 GiB", "51 °C", "202 W", "sw_power_cap", "hw_thermal_slowdown"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Error("escapes went to what is no terminal")
	}
}

func TestProbePrintsTheNodeAgentsJSON(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out, smi(t, oneGPU), "probe", "--json"); err != nil {
		t.Fatal(err)
	}
	var r gpuprobe.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.GPUUsagePercent != gpuprobe.Some(25.) || r.GPUUtilizationPercent != gpuprobe.Some(45.) || r.Devices[0].UUID != "GPU-a" {
		t.Errorf("%+v", r)
	}
}

func TestProbeWithoutAGPUIsOneClearSentence(t *testing.T) {
	host := smi(t, "echo 'No devices were found'; exit 6")
	err := run(t.Context(), io.Discard, host, "probe")
	if err == nil || !strings.HasPrefix(err.Error(), "this host shows no NVIDIA GPU: starting nvidia-smi: ") ||
		!strings.HasSuffix(err.Error(), "ended: No devices were found") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestProbeReadsAnySource(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("vllm:num_requests_waiting{model_name=\"a\x1b[31mb\"} 3\nmy_percent{of=\"gpu\",x=\"y\"} 75\nmy_percent{of=\"cpu\"} 80\n"))
	}))
	defer server.Close()
	var out bytes.Buffer
	if err := run(t.Context(), &out, nil, "probe", "--source", "vllm", server.URL); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, "│ queue │ 3 ") || !strings.Contains(got, "│ model │ a·[31mb │") || strings.ContainsRune(got, '\x1b') {
		t.Errorf("got\n%s", got)
	}
	out.Reset()
	if err := run(t.Context(), &out, nil, "probe", "-s", "prometheus", server.URL, "--map", `utilization=my_percent{of="gpu",x="y"} * 0.01`); err != nil ||
		!strings.Contains(out.String(), "│ gpu use │ ███████▌░░  75 % │") {
		t.Errorf("%v\n%s", err, &out)
	}
}

func TestProbeExplainsWhatItCannotDo(t *testing.T) {
	for want, args := range map[string][]string{
		"needs --source":          {"probe", "http://h"},
		"cannot be probed":        {"probe", "--source", "push"},
		`kind "x": use one of`:    {"probe", "--source", "x"},
		"give the address":        {"probe", "--source", "dcgm"},
		"must be positive":        {"probe", "--interval", "0s"},
		"accepts at most 1 arg":   {"probe", "a", "b"},
		"connection refused":      {"probe", "--source", "dcgm", "127.0.0.1:1"},
		"--map queue: want field": {"probe", "--source", "json", "h", "--map", "queue"},
		"nvidia-smi":              {"probe", "--help"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), &out, hostSources, args...)
		if err == nil {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: no error and no %q in\n%s", args, want, &out)
			}
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", args, err, want)
		}
	}
}

func TestWatchingGoesOnThroughFailuresUntilInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		switch asked {
		case 2:
			w.WriteHeader(http.StatusInternalServerError)
		case 4:
			cancel()
		}
		_, _ = w.Write([]byte("te_queue_size 1\n"))
	}))
	defer server.Close()
	var out bytes.Buffer
	start := time.Now()
	err := run(ctx, &out, nil, "probe", "--source", "tei", server.URL, "--watch", "--interval", "10ms", "--json")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err != nil || len(lines) < 3 || !strings.Contains(lines[0], `"queue":1`) || !strings.Contains(lines[1], "status 500") || !strings.Contains(lines[2], `"queue":1`) {
		t.Errorf("%v after %v\n%s", err, time.Since(start), &out)
	}
}
