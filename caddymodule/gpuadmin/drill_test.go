package gpuadmin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpuadmin/drill"
	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// drillBody is a user's text.
const drillBody = `{"text":"MARIA-PHONE-4711"}`

// both gives what a command prints and what it tells meanwhile.
func both(ctx context.Context, args ...string) (out, told string, err error) {
	cmd := &cobra.Command{Use: "gpu", SilenceUsage: true, SilenceErrors: true}
	setUpCommand(cmd)
	var o, e bytes.Buffer
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(ctx)
	return o.String(), e.String(), err
}

// drillGatewayOf has two nodes and is quick to trust them again.
func drillGatewayOf(a, b string) string {
	return strings.Replace(gateway(a, b), "lb_policy gpu\n\t\tlb_retries 2", "lb_policy gpu {\n\t\t\tslow_start 1s\n\t\t\teject off\n\t\t}", 1)
}

func drillArgs(c *caddyrun.Instance, more ...string) []string {
	return append([]string{
		"drill", "--address", c.Addr("ADMIN"), "--url", c.URL("GW") + "/predict", "--data", drillBody,
		"--rate", "50", "--hold", "1s", "--wait", "20s",
	}, more...)
}

func TestDrillOfAGatewayThatLosesNothing(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := start(t, drillGatewayOf(a.addr, b.addr))
	warmUp(t, c)
	out, told, err := both(t.Context(), drillArgs(c, "--json")...)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, told)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines, want one per node and a summary:\n%s", len(lines), out)
	}
	for i, line := range lines[:2] {
		var n drillNodeLine
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if n.Lost != 0 || n.Out.Sent < 40 || n.SwitchMS == nil || n.IdleMS == nil || n.Out.P99MS == nil || n.StillDrained {
			t.Errorf("node %d: %s", i, line)
		}
	}
	var last struct{ Summary drillSummary }
	if err := json.Unmarshal([]byte(lines[2]), &last); err != nil || !last.Summary.Passed || last.Summary.Sent < 150 {
		t.Errorf("%v in %s", err, lines[2])
	}
	for _, n := range []*node{a, b} {
		if s := status(t, c, n.addr).State; s == "drained" || s == "draining" {
			t.Errorf("%s is %s after the drill", n.addr, s)
		}
	}
	for where, text := range map[string]string{"output": out + told, "log": c.Log()} {
		if strings.Contains(text, "PHONE") {
			t.Errorf("a user's text is in the %s", where)
		}
	}
}

// warmUp lets the gateway meet its nodes.
func warmUp(t *testing.T, c *caddyrun.Instance) {
	t.Helper()
	resp, err := newClient(t).Get(c.URL("GW"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A node that can't stand alone: it breaks every fifth connection when the
// other is drained.
func fragile(t *testing.T, other string) string {
	var mu sync.Mutex
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n, err := gpupolicy.Node(other); err == nil && strings.HasPrefix(n.State, "drain") {
			mu.Lock()
			asked++
			breaks := asked%5 == 0
			mu.Unlock()
			if breaks {
				panic(http.ErrAbortHandler)
			}
		}
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	t.Cleanup(func() { gpupolicy.Resume(addr) })
	return addr
}

func TestDrillFindsLostRequests(t *testing.T) {
	strong := newNode(t)
	weak := fragile(t, strong.addr)
	c := start(t, drillGatewayOf(strong.addr, weak))
	warmUp(t, c)
	out, told, err := both(t.Context(), drillArgs(c, "--node", strong.addr, "--max-lost", "1000")...)
	if err == nil || !strings.Contains(err.Error(), "requests were lost") {
		t.Errorf("%v\n%s%s", err, out, told)
	}
	if !strings.Contains(out, "LOST ") || !strings.Contains(out, " 5xx") || !strings.Contains(out, strong.addr) {
		t.Errorf("printed\n%s", out)
	}
	out, _, err = both(t.Context(), drillArgs(c, "--node", strong.addr, "--max-lost", "2", "--json", "--hold", "3s")...)
	if err == nil || !strings.Contains(err.Error(), "more than --max-lost 2") || !strings.Contains(out, `"passed":false`) {
		t.Errorf("%v\n%s", err, out)
	}
	if s := status(t, c, strong.addr).State; s == "drained" || s == "draining" {
		t.Errorf("%s after losses", s)
	}
}

func TestInterruptedDrillPutsItsNodeBack(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process can't interrupt itself there")
	}
	a, b := newNode(t), newNode(t)
	c := start(t, drillGatewayOf(a.addr, b.addr))
	warmUp(t, c)
	done := make(chan error)
	go func() {
		_, _, err := both(context.Background(), drillArgs(c, "--node", a.addr, "--node", b.addr, "--hold", "5m")...)
		done <- err
	}()
	hits := func() int64 { return a.hits.Load() + b.hits.Load() }
	eventually(t, "the baseline", func() bool { return hits() > 5 })
	interrupt(t)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("in the baseline: %v", err)
	}
	go func() {
		_, _, err := both(context.Background(), drillArgs(c, "--node", a.addr, "--hold", "3s")...)
		done <- err
	}()
	eventually(t, "the node to be drained", func() bool { return status(t, c, a.addr).State == "drained" })
	interrupt(t)
	if err := <-done; err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("in the hold: %v", err)
	}
	for _, n := range []*node{a, b} {
		if s := status(t, c, n.addr).State; s == "drained" || s == "draining" {
			t.Errorf("%s is %s after the interruption", n.addr, s)
		}
	}
}

func interrupt(t *testing.T) {
	t.Helper()
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Signal(os.Interrupt)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDryRunDrainsNothing(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := start(t, drillGatewayOf(a.addr, b.addr))
	warmUp(t, c)
	before := a.hits.Load() + b.hits.Load()
	out, _, err := both(t.Context(), drillArgs(c, "--dry-run")...)
	if err != nil || !strings.Contains(out, a.addr) || !strings.Contains(out, b.addr) || !strings.Contains(out, "Nothing was drained") {
		t.Errorf("%v\n%s", err, out)
	}
	if n := a.hits.Load() + b.hits.Load() - before; n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

func TestDrillExplainsWhatItCannotDo(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := start(t, drillGatewayOf(a.addr, b.addr)+"http://ADDR_BROKEN {\n\trespond \"MARIA-PHONE-4711\" 404\n}\n")
	warmUp(t, c)
	for want, args := range map[string][]string{
		"--url: want":                    {"--url", "localhost:8080"},
		"--rate 1000: want":              {"--rate", "1000"},
		"--hold 1ms: want":               {"--hold", "1ms"},
		"--wait 0s: want":                {"--wait", "0"},
		"--max-lost -1: want":            {"--max-lost", "-1"},
		"--header: number 1 is no":       {"--header", "MARIA-PHONE-4711"},
		"--data: open ":                  {"--data", "@" + filepath.Join(t.TempDir(), "none")},
		"as it should: 404 Not Found":    {"--url", c.URL("BROKEN") + "/?text=PHONE"},
		"as it should: dial tcp":         {"--url", "http://" + caddyrun.FreeAddr(t) + "/?text=PHONE"},
		`no node "10.9.9.9:1"; the node`: {"--node", "10.9.9.9:1"},
		"is Caddy running?":              {"--address", caddyrun.FreeAddr(t)},
	} {
		out, told, err := both(t.Context(), drillArgs(c, args...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", args, err, want)
		}
		if strings.Contains(out+told+fmt.Sprint(err), "PHONE") {
			t.Errorf("%v: a user's text is shown: %s%s%v", args, out, told, err)
		}
	}
	if _, err := gpupolicy.Drain(b.addr); err != nil {
		t.Fatal(err)
	}
	if _, _, err := both(t.Context(), drillArgs(c)...); err == nil || !strings.Contains(err.Error(), "is drained already") {
		t.Errorf("%v", err)
	}
}

func TestDrillDataComesFromFilesToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, []byte(drillBody), 0o600); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{"x": "x", "": "", "@" + file: drillBody, "@-": "stdin"} {
		got, err := readData(arg, strings.NewReader("stdin"))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", arg, got, err)
		}
	}
	if _, err := readData("@-", io.LimitReader(endless{}, maxData+10)); err == nil {
		t.Error("no bound")
	}
	h, err := parseHeaders([]string{"authorization: Bearer a:b", "X-A:1", "x-a: 2"})
	if err != nil || h.Get("Authorization") != "Bearer a:b" || len(h["X-A"]) != 2 {
		t.Errorf("%v, %v", h, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A node that could not be put back is the last thing that is said, with the
// command that does it.
func TestNodeLeftDrainedIsSaidWithItsRemedy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := drill.Options{Hold: time.Second, Wait: time.Second, MaxLost: 1, Log: func(string, ...any) {}}
		l := &drill.Load{URL: "http://gateway", Rate: 20, Timeout: time.Second}
		gw := &stuck{nodes: []drill.Node{
			{Address: "a:1", State: "up", InUse: true, Pool: 1, Tier: 1},
			{Address: "b:1", State: "up", InUse: true, Pool: 1, Tier: 1},
		}}
		l.Transport = gw
		var out bytes.Buffer
		err := runDrill(t.Context(), &out, false, "unix//run/admin.sock", gw, l, o)
		if err == nil || !strings.HasSuffix(err.Error(), "\n\tcaddy gpu resume a:1 --address unix//run/admin.sock") || !strings.Contains(err.Error(), "a:1 IS STILL DRAINED") {
			t.Errorf("%v", err)
		}
		if !strings.Contains(out.String(), "STILL DRAINED") {
			t.Errorf("printed\n%s", &out)
		}
	})
}

// stuck obeys a drain and no resume.
type stuck struct {
	mu    sync.Mutex
	nodes []drill.Node
}

func (s *stuck) Nodes() ([]drill.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]drill.Node(nil), s.nodes...), nil
}

func (s *stuck) Drain(string) (drill.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[0].State = "drained"
	return s.nodes[0], nil
}

func (s *stuck) Resume(string) (drill.Node, error) {
	return drill.Node{}, errors.New("connection refused")
}

func (s *stuck) RoundTrip(*http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.nodes {
		if s.nodes[i].State == "up" {
			s.nodes[i].Picks++
			break
		}
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}
