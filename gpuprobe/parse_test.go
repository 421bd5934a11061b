package gpuprobe

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// full has every part of a report.
func full(at time.Time) Sample {
	return Sample{
		MeasuredAt: at, CPUUtilization: some(0.5), HostMemoryUtilization: some(0.25),
		Queue: some(3.), Running: some(2.), InFlight: some(5.), KVCache: some(0.75),
		Model: "ner-zh", ModelDigest: "sha256:ab", Healthy: some(true), APIHealthy: some(true), WebUIHealthy: some(false),
		Devices: []Device{
			{
				UUID: "GPU-a", Name: "A100", Index: some(0), Utilization: some(0.9), MemoryUsedBytes: some[uint64](1 << 30),
				MemoryTotalBytes: some[uint64](4 << 30), TemperatureC: some(60.), PowerW: some(0.),
				Throttle: some(ThrottleIdle | ThrottlePowerBrake), XID: some[uint64](48), XIDAt: at, ECCUncorrected: some[uint64](1),
			},
			{UUID: "GPU-b", Index: some(3), Instance: "7", Throttle: some(ThrottleReasons(0))},
		},
	}
}

func TestAReportKeepsAllOfASample(t *testing.T) {
	want := full(time.Unix(1764000000, 0))
	data, err := json.Marshal(NewReport(&want))
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseJSON(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The JSON also has the worst of the devices, for scripts.
	want.Utilization, want.MemoryUtilization = some(0.9), some(0.25)
	if !got.MeasuredAt.Equal(want.MeasuredAt) || !got.Devices[0].XIDAt.Equal(want.MeasuredAt) {
		t.Errorf("times %v %v", got.MeasuredAt, got.Devices[0].XIDAt)
	}
	got.MeasuredAt, got.Devices[0].XIDAt = want.MeasuredAt, want.MeasuredAt
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v\n%s", got, want, data)
	}
	empty, err := json.Marshal(NewReport(&Sample{}))
	if err != nil || string(empty) != `{"timestamp":"0001-01-01T00:00:00Z","devices":[]}` {
		t.Errorf("%v %s: what is missing must not be there", err, empty)
	}
}

func TestJSONOfHealthScriptsAndOwnKeys(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	tests := []struct {
		name, json string
		mapping    map[string]string
		want       Sample
	}{
		{
			"a health script's", `{"timestamp":"2026-01-02T03:04:05","gpu_usage_percent":"45.5%","api_healthy":true,"webui_healthy":false,"overall_healthy":false,"extra":{}}`, nil,
			Sample{MeasuredAt: at, MemoryUtilization: some(0.455), APIHealthy: some(true), WebUIHealthy: some(false), Healthy: some(false)},
		},
		{"one odd value", `{"gpu_usage_percent":"N/A","queue":4,"in_flight":-1,"cpu_percent":1e9,"devices":[7,null]}`, nil, Sample{Queue: some(4.)}},
		{"milliseconds", `{"timestamp":1751475457000,"queue":0}`, nil, Sample{MeasuredAt: time.Unix(1751475457, 0), Queue: some(0.)}},
		{
			"own keys", `{"gpu":{"list":[{"load":25},{"load":"75"}]},"waiting":{"now":2}}`,
			map[string]string{"utilization": "gpu.list.*.load * 0.01", "queue": "waiting.now"},
			Sample{Queue: some(2.), Devices: []Device{{Index: some(0), Utilization: some(0.25)}, {Index: some(1), Utilization: some(0.75)}}},
		},
		{
			"one element", `[{"load":25},{"load":75}]`,
			map[string]string{"utilization": "1.load * 0.01"},
			Sample{Devices: []Device{{Index: some(1), Utilization: some(0.75)}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t, Config{Kind: "json", Address: serve(t, tt.json, nil), Mapping: tt.mapping})
			if tt.want.MeasuredAt.IsZero() {
				got.MeasuredAt = time.Time{}
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, tt.want)
			}
		})
	}
	for _, page := range []string{``, `{}`, `[]`, `"x"`, `{"queue":"many"}`} {
		if s, err := parseJSON([]byte(page), nil); err == nil {
			t.Errorf("%s gives %+v", page, s)
		}
	}
}

func TestPushedReportsAgeByTheReceiversClock(t *testing.T) {
	var h Holder
	if _, err := h.Read(t.Context()); !errors.Is(err, ErrNoReport) {
		t.Errorf("error %v", err)
	}
	now := time.Unix(1764000000, 0)
	post := func(body string, at time.Time, want time.Time) {
		t.Helper()
		if err := h.Post([]byte(body), at); err != nil {
			t.Fatal(err)
		}
		if s, err := h.Read(t.Context()); err != nil || !s.MeasuredAt.Equal(want) {
			t.Errorf("%v %v, want %v", err, s.MeasuredAt, want)
		}
	}
	post(`{"timestamp":"2001-01-01T00:00:00Z","queue":1}`, now, now) // a wrong clock
	post(`{"timestamp":"2001-01-01T00:00:05Z","queue":1}`, now.Add(5*time.Second), now.Add(5*time.Second))
	post(`{"timestamp":"2001-01-01T00:00:05Z","queue":2}`, now.Add(9*time.Second), now.Add(5*time.Second)) // a script that hangs
	if err := h.Post([]byte(`no`), now); err == nil {
		t.Error("no error for what is no report")
	}
	h.Put(Sample{Queue: some(9.)})
	if s, _ := h.Read(t.Context()); s.Queue != some(9.) {
		t.Errorf("%+v", s)
	}
}

func TestAgentCheckLanguage(t *testing.T) {
	tests := map[string]Agent{
		"75%":                         {WeightShare: some(0.75)},
		"ready up 100%":               {WeightShare: some(1.), Admin: "ready", State: "up"},
		"UP,Drain\t0%":                {WeightShare: some(0.), Admin: "drain", State: "up"},
		"up down":                     {State: "down"},
		"down # disk full, really":    {State: "down", Text: "disk full, really"},
		"fail#not a description":      {Text: "fail#not"}, // one word, as HAProxy reads it
		"maxconn:30 weight:200":       {MaxConn: some(30), Weight: some(200)},
		"weight:50% maint":            {WeightShare: some(0.5), Admin: "maint"},
		"weight:50% weight:3":         {Weight: some(3)},
		"stopped weight:257 maxconn:": {State: "stopped", Text: "weight:257"},
		"up nonsense":                 {State: "up", Text: "nonsense"},
		"up -5% 3 99999999%":          {State: "up", Text: "-5%"},
		"":                            {},
	}
	for line, want := range tests {
		got, err := parseAgent(line)
		if line == "fail#not a description" {
			if err == nil {
				t.Errorf("%q: %+v", line, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %v\ngot  %+v\nwant %+v", line, err, got, want)
		}
	}
	if _, err := parseAgent("hello"); err == nil {
		t.Error("a greeting is no agent's line")
	}
}

func TestAgentsAreAskedOverTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked := make([]byte, 3)
			_, _ = io.ReadFull(conn, asked)
			_, _ = conn.Write([]byte(map[string]string{"gpu": "down 5% #hot\r\n", "cut": "drai", "big": strings.Repeat("a", 1<<14)}[string(asked)]))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	address := listener.Addr().String()
	s, err := read(t, Config{Kind: "agent_check", Address: address, Send: "gpu"})
	if err != nil || s.Healthy != some(false) || s.Agent != (Agent{State: "down", WeightShare: some(0.05), Text: "hot"}) {
		t.Errorf("%v %+v", err, s)
	}
	for send, want := range map[string]string{"cut": "newline is missing", "big": "more than 4096 bytes"} {
		if _, err := read(t, Config{Kind: "agent_check", Address: address, Send: send}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", send, err)
		}
	}
}

func TestAnAgentsLineMayComeInPieces(t *testing.T) {
	if line, err := readAgentLine(iotest.OneByteReader(strings.NewReader("up 5%\nmore"))); err != nil || line != "up 5%" {
		t.Errorf("%v %q", err, line)
	}
}

func TestORCAInAllItsForms(t *testing.T) {
	// cpu_utilization 0.25 (field 1), utilization {"gpu": 0.5} (field 5).
	const bin = "CQAAAAAAANA/Kg4KA2dwdREAAAAAAADgPw"
	gpu := Sample{Utilization: some(0.5), CPUUtilization: some(0.25)}
	tests := []struct {
		name   string
		header http.Header
		want   Sample
	}{
		{"text of Envoy", http.Header{orcaHeader: {"TEXT cpu_utilization:0.25, utilization.gpu:0.5"}}, gpu},
		{"text of Triton", http.Header{orcaHeader: {"TEXT cpu_utilization=0.25,application_utilization=0.5"}}, gpu},
		{"no format", http.Header{orcaHeader: {"cpu_utilization=0.25,application_utilization=0.5"}}, gpu},
		{"JSON", http.Header{orcaHeader: {`JSON {"cpu_utilization":0.25,"utilization":{"gpu":0.5},"named_metrics":{"x":"y"}}`}}, gpu},
		{"JSON of protobuf", http.Header{orcaHeader: {`{"cpuUtilization":0.25,"applicationUtilization":0.5}`}}, gpu},
		{"binary", http.Header{orcaHeader: {"BIN " + bin + "=="}}, gpu},
		{"binary header", http.Header{orcaBinHeader: {bin}}, gpu},
		{
			"vLLM",
			http.Header{orcaHeader: {"TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=1"}},
			Sample{KVCache: some(0.4), Queue: some(1.)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t, Config{Kind: "orca", Address: serve(t, "", tt.header)})
			got.MeasuredAt = time.Time{}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, tt.want)
			}
		})
	}
	for value, want := range map[string]string{
		"": "no header", "TEXT a": "no value", "TEXT a:b": "no number", "JSON [": "JSON", "BIN ***": "base64", "BIN CQ==": "broken",
		"TEXT unheard_of:1": "no known metric", "TEXT " + strings.Repeat("a", maxORCA): "more than",
	} {
		if _, err := ParseORCA(http.Header{orcaHeader: {value}}, time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want %q", value, err, want)
		}
	}
}

func TestThrottleReasonsHaveNames(t *testing.T) {
	r := ThrottleThermalHardware | ThrottlePowerCap | 1<<12
	if got, want := r.Names(), []string{"sw_power_cap", "hw_thermal_slowdown", "0x1000"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !r.Slowed() || (ThrottleIdle | ThrottlePowerCap).Slowed() {
		t.Error("heat slows a node, idling does not")
	}
}

func TestTheWorstDeviceSpeaksForTheNode(t *testing.T) {
	s := full(time.Time{})
	s.Utilization = some(0.1)
	s.Devices[1].TemperatureC = some(-3.)
	if s.GPUUtilization() != some(0.9) || s.GPUMemoryUtilization() != some(0.25) || s.TemperatureC() != some(60.) {
		t.Errorf("%v %v %v", s.GPUUtilization(), s.GPUMemoryUtilization(), s.TemperatureC())
	}
	s.Devices = nil
	if s.GPUUtilization() != some(0.1) || s.TemperatureC().Known() {
		t.Errorf("%v %v", s.GPUUtilization(), s.TemperatureC())
	}
}

func FuzzAgent(f *testing.F) {
	f.Add("up 75% maxconn:3 # all is well")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := parseAgent(line)
		if v, ok := a.WeightShare.Get(); err == nil && ok && !(v >= 0 && v <= 256) || len(a.Text) > maxString {
			t.Errorf("%q gives %+v", line, a)
		}
	})
}

func FuzzORCA(f *testing.F) {
	f.Add("TEXT cpu_utilization:0.25", "")
	f.Add(`JSON {"utilization":{"gpu":0.5}}`, "")
	f.Add("", "CQAAAAAAANA/Kg4KA2dwdREAAAAAAADgPw")
	f.Fuzz(func(t *testing.T, value, bin string) {
		if s, err := ParseORCA(http.Header{orcaHeader: {value}, orcaBinHeader: {bin}}, time.Time{}); err == nil {
			sound(t, &s)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"timestamp":1e300,"gpu_usage_percent":45,"devices":[{"uuid":"a","xid":1,"xid_at":"2026-01-02T03:04:05Z","throttle_reasons":["gpu_idle"]}]}`)
	f.Fuzz(func(t *testing.T, page string) {
		if s, err := parseJSON([]byte(page), nil); err == nil {
			sound(t, &s)
			if _, err := json.Marshal(NewReport(&s)); err != nil {
				t.Error(err)
			}
		}
	})
}
