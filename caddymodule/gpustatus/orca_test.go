package gpustatus

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

const orcaHeader, orcaAsk = "Endpoint-Load-Metrics", "Endpoint-Load-Metrics-Format: "

func TestOtherHandlersResponsesCarryTheLoadWhenAsked(t *testing.T) {
	g := newGPU(t)
	own := false
	var release chan struct{}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if own {
			w.Header().Set(orcaHeader, "TEXT cpu_utilization:0.9")
		}
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(w, "data: 1\n")
			http.NewResponseController(w).Flush()
			<-release
		}
		_, _ = io.WriteString(w, "answer\n")
	}))
	defer upstream.Close()
	c := caddyrun.Start(t, `http://ADDR_NODE {
	gpu_status {
		telemetry nvidia_smi `+g.program+`
		interval 100ms
		orca
	}
	respond /respond hello
	reverse_proxy `+upstream.URL+` {
		flush_interval -1
	}
}`)
	load := func(a answer) (gpuprobe.Sample, error) { return gpuprobe.ParseORCA(a.header, time.Now()) }
	eventually(t, "the GPU's load", func() bool {
		s, err := load(fetch(t, "GET "+c.URL("NODE")+"/respond", orcaAsk+"TEXT"))
		return err == nil && s.GPUUtilization() == gpuprobe.Some(0.4)
	})
	for _, format := range []string{"TEXT", "JSON", "BIN"} {
		for _, request := range []string{"GET /", "POST /", "HEAD /", "GET /respond"} {
			method, path, _ := strings.Cut(request, " ")
			a := fetch(t, method+" "+c.URL("NODE")+path, orcaAsk+format)
			if s, err := load(a); err != nil || s.GPUUtilization() != gpuprobe.Some(0.4) || a.status != 200 {
				t.Errorf("%s %s: %v %+v", format, request, err, a)
			}
		}
	}
	if a := fetch(t, "GET "+c.URL("NODE")); a.header.Get(orcaHeader) != "" || a.body != "answer\n" {
		t.Errorf("without being asked: %+v", a)
	}
	own = true
	if a := fetch(t, "GET "+c.URL("NODE"), orcaAsk+"TEXT"); len(a.header.Values(orcaHeader)) != 1 || a.header.Get(orcaHeader) != "TEXT cpu_utilization:0.9" {
		t.Errorf("the server's own report became %v", a.header.Values(orcaHeader))
	}
	own, release = false, make(chan struct{})
	req, err := http.NewRequest(http.MethodGet, c.URL("NODE")+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Endpoint-Load-Metrics-Format", "TEXT")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	close(release)
	if err != nil || line != "data: 1\n" || resp.Header.Get(orcaHeader) == "" {
		t.Errorf("a stream's first line %q, %v, headers %v", line, err, resp.Header)
	}
}
