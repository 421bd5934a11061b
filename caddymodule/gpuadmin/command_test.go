package gpuadmin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// command runs `caddy gpu` as cobra does.
func command(ctx context.Context, args ...string) (string, error) {
	cmd := &cobra.Command{Use: "gpu", SilenceUsage: true, SilenceErrors: true}
	setUpCommand(cmd)
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(append([]string{}, args...)) // nil would be the process's
	err := cmd.ExecuteContext(ctx)
	return out.String(), err
}

func TestCommandsDirectARunningCaddy(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := start(t, gateway(a.addr, b.addr))
	address := "--address=" + c.Addr("ADMIN")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"drain", a.addr, "--wait", "5s"}, a.addr + " is drained: nothing left\n"},
		{[]string{"nodes"}, "│ drained │"},
		{[]string{"resume", a.addr}, a.addr + " is up, in slow start\n"},
		{[]string{"weight", a.addr, "2.5"}, a.addr + " has weight 2.5 instead of 1\n"},
		{[]string{"nodes"}, "│ 2.5 (1) │"},
		{[]string{"weight", a.addr, "configured"}, a.addr + " has weight 1, as configured\n"},
		{[]string{"drain", a.addr, "--json"}, `{"address":"` + a.addr + `","state":"drained"`},
		{[]string{"nodes", "--json"}, `,{"address":"`},
	} {
		got, err := command(t.Context(), append(tt.args, address)...)
		if err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%v: %v\n%s\nwant %s", tt.args, err, got, tt.want)
		}
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"drain", "10.9.9.9:1"}, `no node "10.9.9.9:1"; the nodes are `},
		{[]string{"drain"}, "name one node: caddy gpu drain 10.0.0.1:8081"},
		{[]string{"weight", a.addr}, "name a node and its weight"},
		{[]string{"weight", a.addr, "much"}, `weight "much": want a number, or the word configured`},
		{[]string{"weight", a.addr, "nan"}, `weight "nan": want a number`},
		{[]string{"weight", a.addr, "0"}, "drain it instead"},
		{[]string{"nodes", "--watch", "--interval", "1ms"}, "want at least 50ms"},
	} {
		if _, err := command(t.Context(), append(tt.args, address)...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.args, err, tt.want)
		}
	}
	if _, err := command(t.Context(), "dran"); err == nil || !strings.Contains(err.Error(), "dran") {
		t.Errorf("unknown command: %v", err)
	}
	if got, err := command(t.Context()); err != nil || !strings.Contains(got, "resume") {
		t.Errorf("no command: %v %s", err, got)
	}
}

func TestWaitEndsInTime(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(s.Close)
	addr := s.Listener.Addr().String()
	t.Cleanup(func() { gpupolicy.Resume(addr) })
	c := start(t, gateway(addr))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if resp, err := newClient(t).Get(c.URL("GW")); err == nil {
			resp.Body.Close()
		}
	}()
	eventually(t, "the request to be under way", func() bool { return status(t, c, addr).InFlight == 1 })
	address := "--address=" + c.Addr("ADMIN")
	if _, err := command(t.Context(), "drain", addr, address, "--wait", "300ms"); err == nil || !strings.Contains(err.Error(), "still has 1 request after 300ms") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := command(ctx, "drain", addr, address, "--wait", "1m"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%v", err)
	}
	if got, err := command(t.Context(), "drain", addr, address); err != nil || !strings.HasSuffix(got, " is draining: 1 request left\n") {
		t.Errorf("%v %s", err, got)
	}
	resumed := make(chan error)
	go func() {
		_, err := command(context.Background(), "drain", addr, address, "--wait", "1m")
		resumed <- err
	}()
	time.Sleep(100 * time.Millisecond)
	gpupolicy.Resume(addr)
	if err := <-resumed; err == nil || !strings.Contains(err.Error(), "was resumed meanwhile") {
		t.Errorf("%v", err)
	}
	close(release)
	<-done
}

func TestTroubleWithTheAdminEndpointIsExplained(t *testing.T) {
	if _, err := command(t.Context(), "nodes", "--address", caddyrun.FreeAddr(t)); err == nil || !strings.Contains(err.Error(), "is Caddy running?") {
		t.Errorf("nobody listens: %v", err)
	}
	for answer, want := range map[string]string{
		"404 page not found":         "built without caddy-infer",
		`{"error":"host forbidden"}`: "host forbidden",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, answer, 404) }))
		_, err := command(t.Context(), "nodes", "--address", s.Listener.Addr().String())
		s.Close()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }))
	t.Cleanup(s.Close)
	if _, err := command(t.Context(), "nodes", "--address", s.Listener.Addr().String()); err == nil || !strings.Contains(err.Error(), "reading the answer of") {
		t.Errorf("no JSON: %v", err)
	}
	config := filepath.Join(t.TempDir(), "caddy.json")
	if err := os.WriteFile(config, []byte(`{"admin":{"listen":"`+s.Listener.Addr().String()+`"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := command(t.Context(), "nodes", "--config", config); err == nil || !strings.Contains(err.Error(), s.Listener.Addr().String()) {
		t.Errorf("the address in a configuration: %v", err)
	}
}

func sample() []gpupolicy.Status {
	ms := 12.345
	w := 2.0
	return []gpupolicy.Status{
		{Address: "10.0.0.1:8081", State: "up", Reason: "in service", InUse: true, InFlight: 3, LatencyMS: &ms, Score: 0.0123456, Weight: 1, Tier: 1, Picks: map[string]uint64{"best": 30}, Since: time.Now().Add(-75 * time.Second)},
		{Address: "unix//run/模型\x1b[31m.sock", State: "drained", Reason: "drained by order", Weight: 2, OrderedWeight: &w, ConfiguredWeight: 1, Tier: 2, Picks: map[string]uint64{"spill": 8, "panic": 2}, Ejections: 4, Since: time.Now().Add(-50 * time.Hour)},
	}
}

func TestTableLinesUp(t *testing.T) {
	got := nodeTable(sample(), nil, 0)
	for _, want := range []string{
		"│ 10.0.0.1:8081               │ up      │ 1m15s │         3 │ 12.3 ms │ 0.01235 │     1 │    1 │ ███████▌░░  75% │       0 │ in service ",
		"│ unix//run/模型·[31m.sock    │ drained │  2d2h │         0 │       - │       0 │ 2 (1) │    2 │ ██▌░░░░░░░  25% │       4 │ drained by order; no handler uses it │",
	} {
		if !strings.Contains(strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no line\n%s\nin\n%s", want, got)
		}
	}
	for _, width := range []int{0, 100, 40} {
		lines := strings.Split(nodeTable(sample(), nil, width), "\n")
		first := text.StringWidthWithoutEscSequences(lines[0])
		if width > 0 && first > width {
			t.Errorf("%d cells wide, want at most %d", first, width)
		}
		for _, line := range lines {
			if w := text.StringWidthWithoutEscSequences(line); w != first {
				t.Errorf("a line of %d cells, the first has %d:\n%s", w, first, line)
			}
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("an address drives the terminal")
	}
	if got := nodeTable(nil, nil, 0); !strings.Contains(got, "no nodes") {
		t.Error(got)
	}
}

func TestTableShowsWhatNodesTell(t *testing.T) {
	nodes := sample()
	knee, age := 4.0, 75.0
	nodes[0].Knee = &knee
	nodes[0].Telemetry = &gpupolicy.TelemetryStatus{AgeSeconds: new(float64)}
	nodes[0].Telemetry.GPUUtilizationPercent = gpuprobe.Some(50.0)
	nodes[0].Warnings = []string{"its model_digest is not that of 10.0.0.2:8081"}
	nodes[1].Telemetry = &gpupolicy.TelemetryStatus{AgeSeconds: &age, Stale: true, Errors: []string{"connection refused"}}
	nodes[1].Telemetry.GPUUsagePercent = gpuprobe.Some(80.0)
	got := nodeTable(nodes, nil, 0)
	for _, want := range []string{
		"│ GPU ", "│ GPU MEMORY ", "│  3 of 4 │", "█████░░░░░  50 %", "████████░░  80 % 1m15s ago",
		"in service; its model_digest is not that of 10.0.0.2:8081", "no telemetry: connection refused",
	} {
		if !strings.Contains(strings.ReplaceAll(got, " ", ""), strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestShareIsOfTheTimeBetween(t *testing.T) {
	before, now := sample(), sample()
	now[0].Picks = map[string]uint64{"best": 31}
	now[1].Picks = map[string]uint64{"spill": 11, "panic": 2}
	if counts, all := picksSince(now, before); counts[0] != 1 || counts[1] != 3 || all != 4 {
		t.Errorf("%v of %v", counts, all)
	}
	now[0].Picks = map[string]uint64{"best": 2} // Caddy was started anew
	if counts, _ := picksSince(now, before); counts[0] != 2 {
		t.Errorf("%v", counts)
	}
}

func TestBarsAndUnits(t *testing.T) {
	for share, want := range map[float64]string{-1: "░░░░", 0: "░░░░", 0.5: "██░░", 0.53125: "██▏░", 1: "████", 7: "████"} {
		if got := bar(share, 4); got != want {
			t.Errorf("bar(%v) %q, want %q", share, got, want)
		}
	}
	for d, want := range map[time.Duration]string{-1: "0s", 59 * time.Second: "59s", 192 * time.Second: "3m12s", 125 * time.Minute: "2h5m", 76 * time.Hour: "3d4h"} {
		if got := age(d); got != want {
			t.Errorf("age(%v) %s, want %s", d, got, want)
		}
	}
	for ms, want := range map[float64]string{0.12345: "0.123 ms", 12.34: "12.3 ms", 1234: "1234 ms", 12345: "12.3 s"} {
		if got := milliseconds(ms); got != want {
			t.Errorf("milliseconds(%v) %s, want %s", ms, got, want)
		}
	}
}

func TestWatchGoesOnUntilInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		var out bytes.Buffer
		asked := 0
		err := watch(ctx, newScreen(&out, true), time.Second, func() ([]gpupolicy.Status, error) {
			if asked++; asked == 2 {
				return nil, errors.New("gone for a moment")
			}
			return sample(), nil
		})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if err != nil || len(lines) != 4 || lines[1] != `{"error":"gone for a moment"}` {
			t.Errorf("%v\n%s", err, &out)
		}
		for _, line := range lines {
			if !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
		never := errors.New("never there")
		if err := watch(ctx, newScreen(&out, false), time.Second, func() ([]gpupolicy.Status, error) { return nil, never }); !errors.Is(err, never) {
			t.Errorf("%v", err)
		}
	})
}

func TestTerminalIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var out bytes.Buffer
		s := &terminal{plain: plain{out: &out}, size: func() (int, int, error) { return 60, 5, nil }}
		asked := 0
		if err := watch(ctx, s, time.Second, func() ([]gpupolicy.Status, error) {
			if asked++; asked == 2 {
				return nil, errors.New("gone\x1b[2J")
			}
			return sample(), nil
		}); err != nil {
			t.Error(err)
		}
		got := out.String()
		if !strings.HasPrefix(got, enterScreen+toTop+"┌") || !strings.HasSuffix(got, clearBelow+leaveScreen) {
			t.Errorf("%q", got)
		}
		for frame := range strings.SplitSeq(strings.TrimPrefix(got, enterScreen+toTop), toTop) {
			if lines := strings.Count(frame, "\n"); lines > 4 {
				t.Errorf("%d lines on a screen of 5", lines+1)
			}
		}
		if strings.Contains(got, "\x1b[2J") {
			t.Error("an error drives the terminal")
		}
	})
}

func TestPlainOutputOfWatchIsTableAfterTable(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, false)
	s.begin()
	for range 2 {
		if err := s.show(sample()); err != nil {
			t.Fatal(err)
		}
	}
	s.trouble(errors.New("gone"))
	s.end()
	if strings.Count(out.String(), "NODE") != 2 || !strings.Contains(out.String(), "\n\n┌") || !strings.HasSuffix(out.String(), "gone\n") {
		t.Error(out.String())
	}
}
