package gpustatus

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func post(t *testing.T, target, contentType, body string) answer {
	t.Helper()
	resp, err := http.Post(target, contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// await is a gateway's telemetry of kind push.
func await(t *testing.T, node string) gpuprobe.Source {
	t.Helper()
	s, err := gpuprobe.Open(gpuprobe.Config{Kind: "push", Address: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAReportGoesToTheTelemetryThatAwaitsIt(t *testing.T) {
	source := await(t, "10.0.0.1:8081")
	c := caddyrun.Start(t, "http://ADDR_GW {\n\tgpu_push /push* {\n\t\tmax_body 1KiB\n\t}\n}")
	for _, test := range []struct {
		path, contentType, body string
		status                  int
		says                    string
	}{
		{"/push/10.0.0.1:8081", "application/json", `{"queue":1}`, 204, ""},
		{"/push/10.0.0.1%3A8081", "application/json; charset=utf-8", `{"queue":2}`, 204, ""},
		{"/push?node=10.0.0.1:8081", "application/json", `{"queue":3}`, 204, ""},
		{"/push/10.0.0.2:8081", "application/json", `{"queue":4}`, 404, "no telemetry of kind push names this node"},
		{"/push/", "application/json", `{"queue":4}`, 400, "no node"},
		{"/push/10.0.0.1:8081", "application/json", `{"queue":`, 400, "reading JSON"},
		{"/push/10.0.0.1:8081", "application/json", `{"nonsense":1}`, 400, "none of the known keys"},
		{"/push/10.0.0.1:8081", "text/plain", `{"queue":4}`, 415, "application/json"},
		{"/push/10.0.0.1:8081", "application/json", `{"queue":4,"x":"` + strings.Repeat("x", 1024) + `"}`, 413, "at most 1024 bytes"},
		{"/push?node=" + strings.Repeat("x", 1000), "application/json", `{}`, 400, "no node"},
	} {
		a := post(t, c.URL("GW")+test.path, test.contentType, test.body)
		if a.status != test.status || !strings.Contains(a.body, test.says) || test.says == "" && a.body != "" {
			t.Errorf("%.40s %s %.30s: %d %s", test.path, test.contentType, test.body, a.status, a.body)
		}
		if test.says != "" && !strings.HasPrefix(a.body, `{"error":"`) {
			t.Errorf("%s: no JSON: %s", test.path, a.body)
		}
	}
	if s, err := source.Read(t.Context()); err != nil || s.Queue != gpuprobe.Some(3.) {
		t.Errorf("%+v, %v", s, err)
	}
	if a := fetch(t, "GET "+c.URL("GW")+"/push/10.0.0.1:8081"); a.status != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("%+v", a)
	}
}

func TestANodeBehindNATPushesItsReport(t *testing.T) {
	const name = "node-a:8081"
	source := await(t, name)
	t.Setenv("PUSH_PASSWORD", "secret")
	g := newGPU(t)
	// The password of the gateway's basic_auth is "secret".
	c := caddyrun.Start(t, `http://ADDR_GW {
	route /push/* {
		basic_auth {
			node $2a$04$/7mPBwKbNlm1lwR5HwyF8uw20dXj46fZmi.GhEHpX.6HBDTug2egO
		}
		gpu_push
	}
}
http://ADDR_NODE {
	gpu_status {
		telemetry nvidia_smi `+g.program+`
		interval 100ms
		push http://node:{env.PUSH_PASSWORD}@ADDR_GW/push/`+name+`
	}
}`)
	if a := post(t, c.URL("GW")+"/push/"+name, "application/json", `{"queue":1}`); a.status != 401 {
		t.Errorf("anybody may push: %+v", a)
	}
	eventually(t, "the node's report at the gateway", func() bool {
		s, err := source.Read(t.Context())
		return err == nil && s.GPUUtilization() == gpuprobe.Some(0.4) && s.Healthy == gpuprobe.Some(true)
	})
	if log := c.Log(); strings.Contains(log, "secret@") || strings.Contains(log, ":secret") {
		t.Error("the password is in the log")
	}
}

func FuzzNodeName(f *testing.F) {
	f.Add("/a/b:1?node=c:2")
	f.Add("/%zz/%3A")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		if name := nodeName(u); len(name) > maxNodeName {
			t.Errorf("%d bytes", len(name))
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("text/plain;q=0.5,*/*")
	f.Fuzz(func(_ *testing.T, accept string) {
		wantsMetrics(http.Header{"Accept": {accept}})
	})
}
