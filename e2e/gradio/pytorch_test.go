//go:build unix

package gradio

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
)

// torch returns a Python that has PyTorch and what serves it.
func torch(t *testing.T) string {
	t.Helper()
	for _, path := range []string{os.Getenv("PYTHON"), "python3", "/usr/bin/python3"} {
		if path != "" && exec.Command(path, "-c", "import torch, transformers, flask, gunicorn").Run() == nil {
			return path
		}
	}
	t.Skip("needs a Python with torch, transformers, flask and gunicorn: Debian's python3-torch with .ci/requirements.txt, or name one in PYTHON")
	return ""
}

// A node dies under load, with a request in its model, and comes back: each
// request gets its answer.
func TestPyTorchServiceLosesNothing(t *testing.T) {
	python := torch(t)
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, newNode(t, name, "/health", func(port string) *exec.Cmd {
			// As the article has it, but for the number of workers.
			return exec.Command(python, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", "127.0.0.1:"+port,
				"--env", "NODE="+name, "--chdir", testdata, "structbert:app")
		}))
	}
	for _, n := range nodes {
		n.await()
	}
	g := startGateway(t, "", nodes...)

	const rate = 4
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan *openloop.Result)
	go func() {
		arrivals := openloop.Poisson(1, openloop.Phase{For: 5 * time.Minute, Rate: rate})
		done <- openloop.Run(ctx, openloop.Config{URL: g.URL("/predict"), NodeHeader: "X-Node", Timeout: time.Minute}, arrivals)
	}()
	status := func() (a, b inUse) {
		text, err := g.Call(http.MethodGet, "/gpu/nodes", "")
		if err != nil {
			t.Fatal(err)
		}
		var all []inUse
		if err := json.Unmarshal(text, &all); err != nil || len(all) != 2 {
			t.Fatalf("%s: %v", text, err)
		}
		if all[0].Address == nodes[0].addr {
			return all[0], all[1]
		}
		return all[1], all[0]
	}
	// Both are at work, and the first one has a request in its model.
	a, b := status()
	for deadline := time.Now().Add(time.Minute); a.picks() < 5 || b.picks() < 5 || a.InFlight == 0; a, b = status() {
		if time.Now().After(deadline) {
			t.Fatalf("the nodes do not take turns: %+v %+v", a, b)
		}
		time.Sleep(5 * time.Millisecond)
	}
	nodes[0].kill()
	killed := time.Now()
	time.Sleep(6 * time.Second)
	nodes[0].start()
	nodes[0].await()
	back := time.Now()
	served := func() bool { // again, by the first node
		resp, err := http.Post(g.URL("/predict"), "application/json", strings.NewReader(`{"text": "又回来了"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		return resp.Header.Get("X-Node") == "a"
	}
	for !served() {
		if time.Since(back) > 90*time.Second {
			t.Fatal("the node that is back gets nothing")
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	r := <-done
	if r.Failed() > 0 {
		t.Errorf("%d of %d requests lost:\n%s", r.Failed(), len(r.Records), strings.Join(r.Failures(), "\n"))
	}
	by := func(r *openloop.Result, name string) int {
		return r.Count(func(rec *openloop.Record) bool { return rec.Node == name })
	}
	at := killed.Sub(r.Begin)
	before, dead := r.Between(0, at), r.Between(at, at+5*time.Second)
	t.Logf("%d requests: %d by a and %d by b before a died, %d by b within 5 s after", len(r.Records), by(before, "a"), by(before, "b"), by(dead, "b"))
	if by(dead, "b") == 0 || by(dead, "a") > 0 {
		t.Error("the other node did not take over")
	}
}

// inUse is what the admin API says of a node.
type inUse struct {
	Address  string         `json:"address"`
	InFlight int            `json:"in_flight"`
	Picks    map[string]int `json:"picks"`
}

func (n *inUse) picks() (sum int) {
	for _, times := range n.Picks {
		sum += times
	}
	return sum
}
