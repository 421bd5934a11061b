package nodeagent

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/shirou/gopsutil/v4/cpu"
	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func some[T any](v T) gpuprobe.Optional[T] { return gpuprobe.Some(v) }

func TestTheAgentsLineByState(t *testing.T) {
	well, ill := some(true), some(false)
	var unknown gpuprobe.Optional[bool]
	for _, test := range []struct {
		name       string
		api, webui gpuprobe.Optional[bool]
		change     func(*State)
		want       [3]string // for api, webui, overall
	}{
		{"all well", well, well, nil, [3]string{"up ready 80%", "up ready 80%", "up ready 80%"}},
		{"nothing to ask", unknown, unknown, nil, [3]string{"up ready 80%", "up ready 80%", "up ready 80%"}},
		{"the WebUI is down", well, ill, nil, [3]string{"up ready 80%", "down #webui: gone", "down #webui: gone"}},
		{"the API is down", ill, well, nil, [3]string{"down #api: gone", "up ready 80%", "down #api: gone"}},
		{"not asked yet", unknown, unknown, func(s *State) { s.unknown, s.apiReason, s.webReason = true, "not asked yet", "not asked yet" }, [3]string{}},
		{"draining", well, well, func(s *State) { s.Draining = true }, [3]string{"up drain 80%", "up drain 80%", "up drain 80%"}},
		{"full", well, well, func(s *State) {
			s.OverMemory, s.bad = true, true
			s.note("gpu memory: 90 %% used")
		}, [3]string{"up ready 25%", "up ready 25%", "down #gpu memory: 90 % used"}},
	} {
		s := &State{Weight: 0.8, Sample: gpuprobe.Sample{APIHealthy: test.api, WebUIHealthy: test.webui}}
		if !test.api.Or(true) {
			s.bad, s.apiReason = true, "gone"
			s.note("api: gone")
		}
		if !test.webui.Or(true) {
			s.bad, s.webReason = true, "gone"
			s.note("webui: gone")
		}
		if test.change != nil {
			test.change(s)
		}
		for i, f := range []For{ForAPI, ForWebUI, ForOverall} {
			want := test.want[i]
			if want != "" {
				want += "\n"
			}
			if got := s.AgentLine(f); got != want {
				t.Errorf("%s, for %s: %q, want %q", test.name, f, got, want)
			}
		}
	}
}

// Whatever a service says of itself stays within one line.
func FuzzAgentLine(f *testing.F) {
	f.Add("refused\nup ready 100%", true)
	f.Add(strings.Repeat("机", 100), false)
	f.Add("", false)
	f.Fuzz(func(t *testing.T, reason string, api bool) {
		s := &State{Weight: 1, Sample: gpuprobe.Sample{APIHealthy: some(false)}, bad: true, apiReason: reason}
		s.note("%s", reason)
		service := ForOverall
		if api {
			service = ForAPI
		}
		line := s.AgentLine(service)
		if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") || strings.Contains(line, "\r") ||
			!strings.HasPrefix(line, "down") || len(line) > maxReason+20 {
			t.Errorf("%q", line)
		}
	})
}

func FuzzConfession(f *testing.F) {
	f.Add([]byte(`{"status":"unhealthy"}`))
	f.Fuzz(func(t *testing.T, page []byte) {
		if err := confession(page); err != nil && len(err.Error()) > 100 {
			t.Errorf("%v", err)
		}
	})
}

func TestAServiceIsTakenAtItsWord(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect elsewhere was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/204", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/503":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/endless":
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/hang":
			<-r.Context().Done()
		default:
			body, _ := strings.CutPrefix(r.URL.Path, "/says/")
			_, _ = w.Write([]byte(body))
		}
	}))
	defer server.Close()
	for path, want := range map[string]string{
		"/204": "", "/same": "", "/endless": "",
		"/503": "status 503", "/elsewhere": "redirected elsewhere", "/hang": "no answer in time",
		"/says/hello": "", `/says/{"status":"healthy","model_loaded":true}`: "", `/says/{"status":3}`: "", `/says/[false]`: "",
		`/says/{"overall_healthy":false}`:            "it says overall_healthy: false",
		`/says/{"status":"ok","model_loaded":false}`: "it says model_loaded: false",
		`/says/{"status":"Unhealthy"}`:               "it says status: unhealthy",
	} {
		timeout := 10 * time.Second
		if path == "/hang" {
			timeout = 50 * time.Millisecond
		}
		err := newHealth(server.URL+path, timeout).ask(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	gone := newHealth("http://user:secret@127.0.0.1:1/", time.Second)
	if err := gone.ask(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestOneLostQuestionIsNoFailure(t *testing.T) {
	h := newHealth("http://127.0.0.1:1", time.Second)
	for i, step := range []struct {
		err  error
		want gpuprobe.Optional[bool]
	}{
		{context.DeadlineExceeded, gpuprobe.Optional[bool]{}},
		{nil, some(true)},
		{context.DeadlineExceeded, some(true)},
		{nil, some(true)},
		{context.DeadlineExceeded, some(true)},
		{context.DeadlineExceeded, some(false)},
		{nil, some(true)},
	} {
		h.take(step.err)
		if h.verdict != step.want {
			t.Errorf("after step %d: %v, want %v", i, h.verdict, step.want)
		}
	}
}

func TestOldReadingsAreLeftOut(t *testing.T) {
	now := time.Now()
	read := func(age time.Duration, err error) gpuprobe.Reading {
		return gpuprobe.Reading{Sample: gpuprobe.Sample{MeasuredAt: now.Add(-age)}, Samples: 1, Err: err, TriedAt: now}
	}
	for _, test := range []struct {
		r    gpuprobe.Reading
		want string
	}{
		{read(time.Second, nil), ""},
		{read(31*time.Second, nil), ""}, // an exporter's own interval
		{read(61*time.Second, nil), "measured 1m1s ago"},
		{read(4*time.Second, context.DeadlineExceeded), ""},
		{read(6*time.Second, context.DeadlineExceeded), context.DeadlineExceeded.Error()},
		{gpuprobe.Reading{}, "not read yet"},
		{gpuprobe.Reading{Err: context.DeadlineExceeded}, context.DeadlineExceeded.Error()},
	} {
		if got := unfit(test.r, now, time.Second); got != test.want {
			t.Errorf("%+v: %q, want %q", test.r, got, test.want)
		}
	}
}

func TestProcessorsUseIsOfTheTimeBetweenReadings(t *testing.T) {
	var h host
	h.processors(cpu.TimesStat{User: 1000, Idle: 1000})
	if h.cpu.Known() {
		t.Error("known after one reading")
	}
	h.processors(cpu.TimesStat{User: 1001, Idle: 1002, Iowait: 1})
	if h.cpu != some(0.25) {
		t.Errorf("%v", h.cpu)
	}
	h.processors(cpu.TimesStat{User: 1001, Idle: 1002, Iowait: 1}) // no time has passed
	if h.cpu != some(0.25) {
		t.Errorf("%v", h.cpu)
	}
	h = host{}
	h.measure(t.Context())
	if v, ok := h.memory.Get(); !ok || v <= 0 || v > 1 {
		t.Errorf("memory %v", h.memory)
	}
}

func TestADigestFollowsTheFiles(t *testing.T) {
	dir := t.TempDir()
	d := &digest{path: dir}
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() { defer close(done); d.keep(ctx, func() { changed <- struct{}{} }) }()
	<-changed
	if sum, why := d.latest(); sum != "" || !strings.Contains(why, "no file of a model is there") {
		t.Errorf("%q %q", sum, why)
	}
	cancel()
	<-done
	if err := os.WriteFile(filepath.Join(dir, "pytorch_model.bin"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	done = make(chan struct{})
	go func() { defer close(done); d.keep(ctx, func() { changed <- struct{}{} }) }()
	<-changed
	if sum, why := d.latest(); !strings.HasPrefix(sum, "sha256:") || why != "" {
		t.Errorf("%q %q", sum, why)
	}
	cancel()
	<-done
}

func TestNotesAreBounded(t *testing.T) {
	s := &State{}
	for i := range 100 {
		s.note("%d %s\n", i, strings.Repeat("很长", 1000))
		s.note("the same")
	}
	if len(s.Notes) != maxNotes {
		t.Errorf("%d notes", len(s.Notes))
	}
	for _, n := range s.Notes {
		if len(n) > maxNoteSize || strings.ContainsAny(n, "\n\r") {
			t.Errorf("note of %d bytes: %.40q", len(n), n)
		}
	}
}

func TestMetricsOfManyDevicesAreUniqueAndClean(t *testing.T) {
	a := &Agent{}
	s := &State{Sample: gpuprobe.Sample{Model: "m\xff", MeasuredAt: time.Now(), CPUUtilization: some(0.5)}}
	for i := range 4 { // two of them alike
		s.Sample.Devices = append(s.Sample.Devices, gpuprobe.Device{
			UUID: strings.Repeat("u", i/2+1), Name: "\xff", XID: some(uint64(79)), ECCUncorrected: some(uint64(1)),
			Throttle: some(gpuprobe.ThrottleThermalHardware), MemoryTotalBytes: some(uint64(1 << 30)),
		})
	}
	a.latest.Store(s)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(a)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); f.GetName() == "gpu_node_device_last_xid" && n != 2 {
			t.Errorf("%d series of two GPUs", n)
		}
	}
}

func TestPushingBacksOffAndSaysSoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged []string
		p := newPusher("http://node:secret@gw/push", time.Second, func(format string, _ ...any) { logged = append(logged, format) })
		var pauses []time.Duration
		for range 7 {
			pauses = append(pauses, p.took(context.DeadlineExceeded))
		}
		if pauses[0] != 2*time.Second || pauses[6] != slowestPush {
			t.Errorf("pauses %v", pauses)
		}
		for range 2 {
			if pause := p.took(nil); pause != time.Second {
				t.Errorf("a pause of %v when all is well again", pause)
			}
		}
		if len(logged) != 2 {
			t.Errorf("logged %q", logged)
		}
		if strings.Contains(p.shown, "secret") {
			t.Errorf("shown as %s", p.shown)
		}
	})
}

func TestAPushReportsWhatTheGatewayAnswers(t *testing.T) {
	var posts atomic.Int64
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		switch r.URL.Path {
		case "/ok":
			w.WriteHeader(http.StatusNoContent)
		case "/200": // a Caddy answers so where no route matches
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":"nobody waits\nhere"}`))
		}
	}))
	defer gateway.Close()
	for path, want := range map[string]string{"/ok": "", "/moved": "status 307", "/200": "status 200: is this the path of a gpu_push?", "/other": "status 404: nobody waits here"} {
		p := newPusher(gateway.URL+path, time.Second, nil)
		err := p.send(t.Context(), &State{Sample: gpuprobe.Sample{Queue: some(1.)}})
		p.client.CloseIdleConnections()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if posts.Load() != 4 {
		t.Errorf("%d posts: a redirect was followed", posts.Load())
	}
}

func TestTheHostsGPUsAreReadByTheFirstSourceThatWorks(t *testing.T) {
	defer func(old []gpuprobe.Config) { hostGPUs = old }(hostGPUs)
	dir := t.TempDir()
	smi := filepath.Join(dir, "nvidia-smi")
	// The first is not in this build, as NVML is not in one without cgo.
	hostGPUs = []gpuprobe.Config{{Kind: "nonsense"}, {Kind: "nvidia_smi", Address: filepath.Join(dir, "none")}, {Kind: "nvidia_smi", Address: smi}}
	script := "#!/bin/sh\necho '0, GPU-a, 40, 1024, 4096, 51, 201.5, 0, 0x0, T4'\nexec sleep 60\n"
	if err := os.WriteFile(smi, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := New(Options{Interval: 100 * time.Millisecond, ShedAt: 0.75}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for deadline := time.Now().Add(30 * time.Second); len(a.Latest().Sample.Devices) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", a.Latest())
		}
	}
	if n := a.Latest().Notes; len(n) > 0 {
		t.Errorf("notes %q", n)
	}
}

func TestBadSourcesAreRefused(t *testing.T) {
	for _, o := range []Options{
		{Telemetry: []gpuprobe.Config{{Kind: "nonsense"}}},
		{Telemetry: make([]gpuprobe.Config, maxSources+1)},
	} {
		if a, err := New(o, nil); err == nil {
			t.Errorf("%+v", a)
		}
	}
}

// Before a service has been asked nobody may hear that it is well.
func TestTheFirstWordIsNotThatAllIsWell(t *testing.T) {
	for range 20 {
		a, err := New(Options{NoGPU: true, Interval: time.Second, Timeout: time.Second, API: "http://127.0.0.1:1/health", ShedAt: 0.75}, t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		if s := a.Latest(); s.Healthy() || !s.unknown && !s.bad {
			t.Errorf("%+v", s)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
