package gpuprobe

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func some[T any](v T) Optional[T] { return Some(v) }

// serve answers with the page until the test ends.
func serve(t *testing.T, page string, header http.Header) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		_, _ = w.Write([]byte(page))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// read opens a source, reads it once and closes it.
func read(t *testing.T, c Config) (Sample, error) {
	t.Helper()
	source, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source.Read(t.Context())
}

func TestEveryExportersPageIsUnderstood(t *testing.T) {
	a100 := "NVIDIA A100-SXM4-40GB"
	tests := map[string]Sample{
		"dcgm": {Devices: []Device{
			{
				UUID: "GPU-a", Name: a100, Index: some(0), Utilization: some(0.45),
				MemoryUsedBytes: some[uint64](10 << 30), MemoryTotalBytes: some[uint64](40 << 30),
				TemperatureC: some(51.), PowerW: some(201.5), XID: some[uint64](79),
				Throttle: some(ThrottleThermalHardware | ThrottlePowerCap),
			},
			// A blank temperature is missing, no memory in use is a fact.
			{UUID: "GPU-b", Name: a100, Index: some(1), Utilization: some(0.92), MemoryUsedBytes: some[uint64](0)},
			{UUID: "GPU-c", Name: a100, Index: some(2), Instance: "7", Utilization: some(0.25), MemoryUsedBytes: some[uint64](512 << 20)},
		}},
		"nvidia_gpu_exporter": {MeasuredAt: time.Unix(1751475457, 0), Devices: []Device{{
			UUID: "df6e7a7c", Name: "NVIDIA GeForce RTX 2080 SUPER", Index: some(0), Utilization: some(0.42),
			MemoryUsedBytes: some[uint64](706740224), MemoryTotalBytes: some[uint64](8 << 30),
			TemperatureC: some(34.), PowerW: some(28.07), Throttle: some(ThrottleThermalSoftware),
			XID: some[uint64](48), XIDAt: time.Unix(1751475450, 0),
		}}},
		"triton": {Queue: some(7.), Devices: []Device{{
			UUID: "GPU-a", Utilization: some(0.63), MemoryUsedBytes: some[uint64](250), MemoryTotalBytes: some[uint64](1000), PowerW: some(70.),
		}}},
		"vllm":     {Model: "qwen", Running: some(5.), Queue: some(3.), KVCache: some(0.5)},
		"sglang":   {Model: "llama", Running: some(161.), Queue: some(10.), KVCache: some(0.28)},
		"tei":      {Queue: some(12.)},
		"llamacpp": {Queue: some(4.), Running: some(1.)},
	}
	for _, e := range exporters {
		t.Run(e.name, func(t *testing.T) {
			page, err := os.ReadFile("testdata/" + e.name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(t, Config{Kind: e.name, Address: serve(t, string(page), nil)})
			if err != nil {
				t.Fatal(err)
			}
			want := tests[e.name]
			if want.MeasuredAt.IsZero() {
				if age := time.Since(got.MeasuredAt); age < 0 || age > 5*time.Second {
					t.Errorf("measured %v ago", age)
				}
				got.MeasuredAt = time.Time{}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestOwnMappingReadsTextAndOpenMetrics(t *testing.T) {
	mapping := map[string]string{
		"utilization": `my_load{kind="gpu, {big}"} * 0.01`,
		"queue":       "waiting",
		"memory_used": "my.mem",
	}
	pages := map[string]string{
		"text":        "my_load{kind=\"gpu, {big}\"} 40 1751475457000\nmy_load{kind=\"cpu\"} 90\n# TYPE waiting gauge\nwaiting 3\n{\"my.mem\", gpu=\"1\"} 5\n",
		"openmetrics": "# TYPE my_load gauge\n# UNIT my_load percent\nmy_load{kind=\"gpu, {big}\"} 40 1751475457.0\n# TYPE waiting unknown\nwaiting 3 # {trace=\"x\"} 1 2.5\n{\"my.mem\", gpu=\"1\"} 5\n# EOF\n",
	}
	for name, page := range pages {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, Config{Kind: "prometheus", Address: serve(t, page, nil), Mapping: mapping})
			want := Sample{
				MeasuredAt: time.UnixMilli(1751475457000), Utilization: some(0.4), Queue: some(3.),
				Devices: []Device{{Index: some(1), MemoryUsedBytes: some[uint64](5)}},
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
			}
		})
	}
}

func TestMisconfiguredSourcesSayWhatIsWrong(t *testing.T) {
	tests := []struct {
		config Config
		want   string
	}{
		{Config{Kind: "dcmg", Address: "h"}, `unknown telemetry kind "dcmg": use one of agent_check, dcgm,`},
		{Config{Kind: "dcgm"}, "give the address"},
		{Config{Kind: "dcgm", Address: "ftp://h"}, "want http(s)://host:port/path"},
		{Config{Kind: "dcgm", Address: "h", Mapping: map[string]string{"queue": "q"}}, "own mapping"},
		{Config{Kind: "prometheus", Address: "h"}, "needs a mapping"},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"load": "x"}}, `unknown field "load": use one of utilization,`},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"queue": "x / 2"}}, `"/ 2" is no factor`},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"queue": "x * -1"}}, "is no factor"},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"queue": " "}}, "no name"},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"queue": "x{a=b}"}}, `want name="value"`},
		{Config{Kind: "prometheus", Address: "h", Mapping: map[string]string{"queue": `x{a="b"`}}, "do not end"},
		{Config{Kind: "agent_check", Address: "h"}, "want host:port"},
	}
	for _, tt := range tests {
		if _, err := Open(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want %q", tt.config, err, tt.want)
		}
	}
}

func TestAPageOfSomethingElseIsAnErrorThatNamesIt(t *testing.T) {
	url := serve(t, "<html>hello</html>", nil)
	if _, err := read(t, Config{Kind: "vllm", Address: url}); err == nil ||
		!strings.Contains(err.Error(), url) || !strings.Contains(err.Error(), "vllm:num_requests_waiting") {
		t.Errorf("error %v", err)
	}
}

func TestReadingIsBoundedAndStaysWithItsHost(t *testing.T) {
	other := serve(t, "te_queue_size 1\n", nil)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other, http.StatusFound) })
	mux.HandleFunc("/near", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/metrics", http.StatusFound) })
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("te_queue_size 2\n")) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		for range maxPage>>10 + 1 {
			_, _ = w.Write([]byte(strings.Repeat("a", 1<<10)))
		}
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "te_queue_size 3", http.StatusInternalServerError)
	})
	for path, want := range map[string]string{"/away": "refusing a redirect", "/big": "more than 4 MiB", "/broken": "status 500"} {
		if _, err := read(t, Config{Kind: "tei", Address: server.URL + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", path, err, want)
		}
	}
	if s, err := read(t, Config{Kind: "tei", Address: server.URL + "/near"}); err != nil || s.Queue != some(2.) {
		t.Errorf("a redirect on the same host: %v %+v", err, s)
	}
}

func TestAddressesAreCompleted(t *testing.T) {
	for address, want := range map[string]string{
		"h":                     "http://h:9400/metrics",
		"h:1":                   "http://h:1/metrics",
		"[::1]":                 "http://[::1]:9400/metrics",
		"https://h/gpu?x=1":     "https://h/gpu?x=1",
		"http://h:9400/metrics": "http://h:9400/metrics",
	} {
		w, err := newWeb(address, 9400, "/metrics", nil)
		if err != nil || w.url != want {
			t.Errorf("%s: %v %+v", address, err, w)
		}
	}
}

func TestTimesFollowTheNodesClock(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) http.Header { return http.Header{"Date": {at.Add(d).Format(http.TimeFormat)}} }
	tests := []struct {
		name   string
		header http.Header
		theirs time.Time
		age    time.Duration
	}{
		{"no time is now", nil, time.Time{}, 0},
		{"clocks that agree", date(0), at.Add(-10 * time.Second), 10 * time.Second},
		{"a node an hour ahead", date(time.Hour), at.Add(time.Hour - 10*time.Second), 10 * time.Second},
		{"a node an hour behind", date(-time.Hour), at.Add(-time.Hour - 10*time.Second), 10 * time.Second},
		{"the future is now", nil, at.Add(time.Hour), 0},
	}
	for _, tt := range tests {
		p := page{header: tt.header, at: at}
		if got := at.Sub(p.measured(tt.theirs)); got != tt.age {
			t.Errorf("%s: age %v, want %v", tt.name, got, tt.age)
		}
	}
}

// sound fails where a sample holds what no parser may let through.
func sound(t *testing.T, s *Sample) {
	t.Helper()
	ratios := []Optional[float64]{s.Utilization, s.MemoryUtilization, s.CPUUtilization, s.HostMemoryUtilization, s.KVCache, s.GPUUtilization(), s.GPUMemoryUtilization()}
	for _, r := range ratios {
		if v, ok := r.Get(); ok && !(v >= 0 && v <= 1) {
			t.Errorf("ratio %v", v)
		}
	}
	for _, c := range []Optional[float64]{s.Queue, s.Running, s.InFlight} {
		if v, ok := c.Get(); ok && !(v >= 0 && v < 1e15) {
			t.Errorf("count %v", v)
		}
	}
	if len(s.Devices) > maxDevices || len(s.Model) > maxString {
		t.Errorf("%d devices, model of %d bytes", len(s.Devices), len(s.Model))
	}
	for _, d := range s.Devices {
		if v, ok := d.Utilization.Get(); ok && !(v >= 0 && v <= 1) || len(d.UUID) > maxString || len(d.Name) > maxString {
			t.Errorf("device %+v", d)
		}
	}
}

func FuzzMetrics(f *testing.F) {
	for _, e := range exporters {
		page, err := os.ReadFile("testdata/" + e.name + ".txt")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(page)
	}
	f.Add([]byte("{\"te_queue_size\"} NaN 1e99 # {\nte_queue_size{a=\"}\"} 1 1\n# EOF"))
	var all []Metric
	for _, e := range exporters {
		all = append(all, e.metrics...)
	}
	f.Fuzz(func(t *testing.T, page []byte) {
		if s, err := parseMetrics(page, all, "model_name"); err == nil {
			sound(t, &s)
		}
	})
}

func FuzzMapping(f *testing.F) {
	f.Add(`x{a="b",c="\""} * 0.01`)
	f.Add(`x{a="b" * 2`)
	f.Fuzz(func(t *testing.T, spec string) {
		if m, err := parseMetric(FieldQueue, spec); err == nil && (m.Name == "" || m.Scale < 0) {
			t.Errorf("%q gives %+v", spec, m)
		}
	})
}
