package gpustatus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpustatus/nodeagent"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

// gpu is a stand-in for nvidia-smi whose one GPU does what the test says.
type gpu struct {
	t       *testing.T
	program string
	row     string
}

func newGPU(t *testing.T) *gpu {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for nvidia-smi is a shell script")
	}
	dir := t.TempDir()
	g := &gpu{t: t, program: filepath.Join(dir, "nvidia-smi"), row: filepath.Join(dir, "row")}
	g.set(40, 4096)
	script := "#!/bin/sh\nwhile cat " + g.row + "; do sleep 0.1; done\n"
	if err := os.WriteFile(g.program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

// set takes the utilisation in percent and the used MiB of 16 GiB.
func (g *gpu) set(use, used int) {
	g.t.Helper()
	row := fmt.Sprintf("0, GPU-a, %d, %d, 16384, 51, 201.5, 0, 0x0000000000000004, NVIDIA T4\n", use, used)
	if err := os.WriteFile(g.row+".new", []byte(row), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(g.row+".new", g.row); err != nil { // never half a row
		g.t.Fatal(err)
	}
}

// service stands in for an API or a WebUI.
type service struct {
	*httptest.Server
	status atomic.Int64
	body   atomic.Pointer[string]
	asked  atomic.Int64
}

func newService(t *testing.T) *service {
	t.Helper()
	s := new(service)
	s.status.Store(200)
	s.says(`{"status":"healthy","model_loaded":true}`)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(s.status.Load()))
		_, _ = io.WriteString(w, *s.body.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) says(body string) { s.body.Store(&body) }

type answer struct {
	status int
	header http.Header
	body   string
}

// fetch makes a request of "METHOD URL" and of headers "Name: value".
func fetch(t *testing.T, request string, headers ...string) answer {
	t.Helper()
	method, url, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (a answer) report(t *testing.T) nodeagent.Report {
	t.Helper()
	var r nodeagent.Report
	if err := json.Unmarshal([]byte(a.body), &r); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return r
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// probe reads what gpu_status says, by a kind of telemetry.
func probe(t *testing.T, c gpuprobe.Config) gpuprobe.Sample {
	t.Helper()
	source, err := gpuprobe.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := source.Read(ctx)
	if err != nil {
		t.Fatalf("%s: %v", c.Kind, err)
	}
	return s
}
