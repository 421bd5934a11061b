package inferhandler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// client has no kept-alive connections: an idle one that the server closes
// during a reload at the instant of a request is HTTP's doing, not ours.
var client = &http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   20 * time.Second,
}

type reply struct {
	code   int
	header http.Header
	body   string
}

// send asks once more if a server that a reload has ended took the connection
// and closed it unheard, as Caddy does.
func send(t testing.TB, url, body string) reply {
	t.Helper()
	r, err := trySend(url, body)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		r, err = trySend(url, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func trySend(url, body string) (reply, error) {
	var resp *http.Response
	var err error
	if body == "" {
		resp, err = client.Get(url)
	} else {
		resp, err = client.Post(url, "application/json", strings.NewReader(body))
	}
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}, err
}

// forget drops what an earlier run of a test (-count) has counted.
func forget(name string) {
	labels := prometheus.Labels{"model": name}
	metrics.requests.DeletePartialMatch(labels)
	metrics.duration.DeletePartialMatch(labels)
	metrics.batchSize.DeletePartialMatch(labels)
}

// site is a Caddyfile with one model and what else a test wants in its
// options and its site.
func site(dir, options, directives string) string {
	return fmt.Sprintf(`{
	metrics
	inference {
		model ner %s {
			engine scripted
			%s
		}
	}
}
http://ADDR_API {
	%s
}`, dir, options, directives)
}

func TestCaddyServesAModel(t *testing.T) {
	c := caddyrun.Start(t, site(modelDir(t), "workers 2", "inference ner"))
	got := send(t, c.URL("API")+"/api/v1/predict", `{"text":"马云在杭州"}`)
	const want = `{"text":"马云在杭州","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":`
	if got.code != 200 || !strings.HasPrefix(got.body, want) || !strings.Contains(got.body, `{"type":"LOC","start":3,"end":5,"span":"杭州","prob":`) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got.header.Get("Server-Timing") == "" || got.header.Get("X-Inference-Model") != "ner" {
		t.Errorf("headers %v", got.header)
	}

	var health healthAnswer
	if got = send(t, c.URL("API")+"/health", ""); got.code != 200 {
		t.Fatalf("%d %s", got.code, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), &health); err != nil {
		t.Fatal(err)
	}
	if health.Status != "healthy" || !health.ModelLoaded || health.Engine != "scripted" || !strings.HasPrefix(health.ModelDigest, "sha256:") {
		t.Errorf("%+v", health)
	}

	resp, err := client.Head(c.URL("API") + "/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("HEAD: %s %v", resp.Status, resp.Header)
	}

	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wantUnloaded(t)
}

func TestSeveralHandlersShareOneModel(t *testing.T) {
	opened := script.opened.Load()
	dir := modelDir(t)
	c := caddyrun.Start(t, site(dir, "", "inference /a ner\n\tinference /b ner")+"\nhttp://ADDR_OTHER {\n\tinference ner\n}")
	for _, url := range []string{c.URL("API") + "/a", c.URL("API") + "/b", c.URL("OTHER") + "/c"} {
		if got := send(t, url, `{"text":"马云"}`); got.code != 200 {
			t.Errorf("%s: %d %s", url, got.code, got.body)
		}
	}
	if n := script.opened.Load() - opened; n != 1 || len(inference.Loaded()) != 1 {
		t.Errorf("the model was opened %d times and is loaded %d times", n, len(inference.Loaded()))
	}
}

func TestAnOverloadedModelSaysWhenToComeBackAndStaysHealthy(t *testing.T) {
	open := closeGate()
	defer open()
	c := caddyrun.Start(t, site(modelDir(t), "workers 1\n\t\t\tbatch 1\n\t\t\tqueue 1 5s", "inference ner"))
	url := c.URL("API") + "/predict"

	replies := make(chan reply, 3)
	ask := func() {
		got, err := trySend(url, `{"text":"等"}`)
		if err != nil {
			got.body = err.Error()
		}
		replies <- got
	}
	waiting := script.waiting.Load()
	go ask()
	eventually(t, "the worker is busy", func() bool { return script.waiting.Load() > waiting })
	go ask() // one of these two fills the queue, the other is turned away
	go ask()
	got := <-replies
	if got.code != 503 || got.header.Get("Retry-After") == "" || !strings.HasPrefix(got.body, `{"error":"overloaded: `) {
		t.Errorf("%d %v %s", got.code, got.header, got.body)
	}
	if health := send(t, c.URL("API")+"/health", ""); health.code != 200 {
		t.Errorf("health under overload: %d %s", health.code, health.body)
	}
	open()
	for range 2 {
		if got := <-replies; got.code != 200 {
			t.Errorf("%d %s", got.code, got.body)
		}
	}
}

func TestTimeoutOptionEndsSlowRequests(t *testing.T) {
	open := closeGate()
	defer open()
	c := caddyrun.Start(t, site(modelDir(t), "", "inference ner {\n\t\ttimeout 50ms\n\t}"))
	if got := send(t, c.URL("API"), `{"text":"等"}`); got.code != 504 || got.body != `{"error":"no answer within 50ms"}` {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestAPanickingEngineFailsOnlyItsRequest(t *testing.T) {
	c := caddyrun.Start(t, site(modelDir(t), "", "inference ner"))
	if got := send(t, c.URL("API"), `{"text":"崩"}`); got.code != 500 || !strings.HasPrefix(got.body, `{"error":"the model failed`) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := send(t, c.URL("API"), `{"text":"马云"}`); got.code != 200 {
		t.Errorf("afterwards: %d %s", got.code, got.body)
	}
	if !strings.Contains(c.Log(), "scripted to break") {
		t.Error("the log does not say what broke")
	}
}

// TestReloadUnderLoadLosesNothingAndLoadsNothingTwice counts on both sides:
// what clients were answered, and what the handler had answered. Connections
// that Caddy's listener drops between two configurations before any handler
// sees them (a bare `respond` loses as many) are opened again, as a gateway
// does.
func TestReloadUnderLoadLosesNothingAndLoadsNothingTwice(t *testing.T) {
	dir := modelDir(t)
	const name = "reloaded" // a name of its own has counters of its own
	config := func(generation int) string {
		return strings.Replace(site(dir, "", fmt.Sprintf("header X-Generation %d\n\tinference %s", generation, name)),
			"model ner", "model "+name, 1)
	}
	forget(name)
	opened := script.opened.Load()
	c := caddyrun.Start(t, config(0))
	handled := metrics.requests.WithLabelValues(name, "200")
	var answered, reconnected atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := trySend(c.URL("API"), `{"text":"马云在杭州"}`)
				switch {
				case err != nil:
					reconnected.Add(1)
				case got.code != 200:
					t.Errorf("%d %s", got.code, got.body)
				default:
					answered.Add(1)
				}
			}
		})
	}
	for i := range 10 {
		enough := answered.Load() + 10
		eventually(t, "requests flow", func() bool { return answered.Load() > enough })
		c.Reload(config(i + 1))
		if loaded := inference.Loaded(); len(loaded) != 1 || loaded[0].Users != 1 {
			t.Errorf("after reload %d: %+v", i, loaded)
		}
	}
	close(stop)
	load.Wait()
	if n := script.opened.Load() - opened; n != 1 {
		t.Errorf("the model was opened %d times", n)
	}
	var count dto.Metric
	if err := handled.Write(&count); err != nil {
		t.Fatal(err)
	}
	if n := int64(count.GetCounter().GetValue()); n != answered.Load() {
		t.Errorf("the handler answered %d requests, of which %d arrived", n, answered.Load())
	}
	t.Logf("%d requests over 10 reloads, %d connections made again", answered.Load(), reconnected.Load())
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wantUnloaded(t)
}

func TestARequestOutlivesTheReloadThatDropsItsModel(t *testing.T) {
	open := closeGate()
	defer open()
	c := caddyrun.Start(t, site(modelDir(t), "", "inference ner"))
	waiting := script.waiting.Load()
	answered := make(chan reply, 1)
	go func() {
		got, err := trySend(c.URL("API"), `{"text":"等马云"}`)
		if err != nil {
			got.body = err.Error()
		}
		answered <- got
	}()
	eventually(t, "the request runs", func() bool { return script.waiting.Load() > waiting })
	c.Reload("http://ADDR_API {\n\trespond gone\n}")
	open()
	if got := <-answered; got.code != 200 || !strings.Contains(got.body, "马云") {
		t.Errorf("%d %s", got.code, got.body)
	}
	wantUnloaded(t)
}

func TestConfigurationErrorsNameTheModelAndTheRemedy(t *testing.T) {
	dir := modelDir(t)
	noConfig := t.TempDir()
	c := caddyrun.Start(t, site(dir, "", "inference ner"))
	for name, tt := range map[string]struct {
		caddyfile string
		want      []string
	}{
		"no such directory":      {site(filepath.Join(dir, "missing"), "", "inference ner"), []string{`inference model "ner"`, "missing", "no such directory"}},
		"no config.json":         {site(noConfig, "", "inference ner"), []string{`inference model "ner"`, noConfig, "config.json is missing"}},
		"unknown name":           {site(dir, "", "inference nre"), []string{`unknown model "nre"`, "the inference option names ner"}},
		"unknown name, no app":   {"http://ADDR_API {\n\tinference ner\n}", []string{`unknown model "ner"`, "builtin/ner-zh"}},
		"unknown built-in":       {"http://ADDR_API {\n\tinference builtin/nothing\n}", []string{`inference model "builtin/nothing"`, "there is no such built-in model"}},
		"a good and a bad model": {site(dir, "\n\t\t}\n\t\tmodel zzz /nowhere {", "inference ner"), []string{`inference model "zzz"`, "/nowhere"}},
		"a device it has not":    {"{\n\tinference {\n\t\tmodel ner builtin/ner-zh {\n\t\t\tdevice cuda\n\t\t}\n\t}\n}\nhttp://ADDR_API {\n\tinference ner\n}", []string{`inference model "ner"`, "device cuda", "use `engine onnxruntime`"}},
		"unknown engine":         {strings.Replace(site(dir, "", "inference ner"), "engine scripted", "engine abacus", 1), []string{`unknown engine "abacus"`, "scripted"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Load(tt.caddyfile)
			if err == nil {
				t.Fatal("it loaded")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			// A failed configuration takes nothing from the running one and
			// leaves nothing behind.
			if got := send(t, c.URL("API"), `{"text":"马云"}`); got.code != 200 {
				t.Errorf("the running configuration answers %d %s", got.code, got.body)
			}
			if loaded := inference.Loaded(); len(loaded) != 1 {
				t.Errorf("loaded: %+v", loaded)
			}
		})
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	wantUnloaded(t)
}

func TestMetricsCountOverReloads(t *testing.T) {
	dir := modelDir(t)
	caddyfile := strings.ReplaceAll(site(dir, "", "metrics /metrics\n\tinference ner"), "model ner", "model counted")
	caddyfile = strings.ReplaceAll(caddyfile, "inference ner", "inference counted")
	forget("counted")
	c := caddyrun.Start(t, caddyfile)
	send(t, c.URL("API"), `{"text":"马云"}`)
	send(t, c.URL("API"), `{"text":""}`)
	c.Reload(strings.Replace(caddyfile, "metrics /metrics", "header X-New yes\n\tmetrics /metrics", 1))
	send(t, c.URL("API"), `{"texts":["马云","杭州"]}`)

	got := send(t, c.URL("API")+"/metrics", "").body
	for _, want := range []string{
		`caddy_inference_requests_total{code="200",model="counted"} 2`,
		`caddy_inference_requests_total{code="400",model="counted"} 1`,
		`caddy_inference_duration_seconds_count{model="counted",phase="queue"} 2`,
		`caddy_inference_duration_seconds_count{model="counted",phase="tokenize"} 2`,
		`caddy_inference_duration_seconds_count{model="counted",phase="run"} 2`,
		`caddy_inference_duration_seconds_count{model="counted",phase="decode"} 2`,
		`caddy_inference_batch_size_count{model="counted"} 2`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(got) {
			if strings.Contains(line, "caddy_inference") {
				t.Log(line)
			}
		}
	}
}

func TestCaddysOwnLogsHaveNoUserText(t *testing.T) {
	log := filepath.Join(t.TempDir(), "debug.log")
	caddyfile := strings.Replace(site(modelDir(t), "", "log\n\tinference ner"), "{\n",
		"{\n\tlog default {\n\t\toutput file "+log+"\n\t\tlevel DEBUG\n\t\tformat json\n\t}\n", 1)
	c := caddyrun.Start(t, caddyfile)
	codes := make(map[int]bool)
	for _, body := range append([]string{`{"text":"崩` + marker + `"}`}, markedRequests...) {
		codes[send(t, c.URL("API"), body).code] = true
	}
	if !codes[200] || !codes[400] || !codes[500] {
		t.Errorf("codes %v", codes)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "handled request") || !strings.Contains(string(text), `"refused"`) {
		t.Errorf("the log lacks what this test looks through:\n%s", text)
	}
	if containsMarker(string(text)) {
		t.Errorf("the log has user text:\n%s", text)
	}
}
