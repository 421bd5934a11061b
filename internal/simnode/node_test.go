package simnode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, c Config) *Node {
	t.Helper()
	if c.Service == 0 {
		c.Service = time.Millisecond
	}
	n, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// client makes a connection for each request.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func call(method, url, body string) (status int, answer string, err error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (n *Node) order(t *testing.T, settings string) {
	t.Helper()
	status, answer, err := call(http.MethodPut, "http://"+n.ControlAddress(), settings)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %s %v", settings, status, answer, err)
	}
}

func TestAnswerBelongsToTheQuestion(t *testing.T) {
	n := start(t, Config{Name: "a"})
	for i := range 3 {
		body := fmt.Sprintf(`{"id":"%d","text":"马云"}`, i)
		status, answer, err := call(http.MethodPost, "http://"+n.Address()+"/predict", body)
		var got Answer
		if err != nil || status != http.StatusOK || json.Unmarshal([]byte(answer), &got) != nil ||
			got != (Answer{ID: fmt.Sprint(i), Node: "a", Bytes: len(body)}) {
			t.Errorf("%d %s %v", status, answer, err)
		}
	}
	for _, body := range []string{"", "[", `{"id":1}`} {
		if status, answer, err := call(http.MethodPost, "http://"+n.Address()+"/predict", body); status != http.StatusBadRequest {
			t.Errorf("%q: %d %s %v", body, status, answer, err)
		}
	}
	if s := n.State(); s.Answered != 3 || s.Received != 6 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNodeFailsAsOrderedAndRecovers(t *testing.T) {
	n := start(t, Config{})
	predict := func() (int, string, error) {
		return call(http.MethodPost, "http://"+n.Address()+"/predict", `{"id":"1"}`)
	}
	health := func() int {
		status, _, _ := call(http.MethodGet, "http://"+n.Address()+"/health", "")
		return status
	}
	fine := func() {
		t.Helper()
		n.order(t, `{"mode":"ok"}`)
		if status, answer, err := predict(); status != http.StatusOK || health() != http.StatusOK {
			t.Fatalf("after recovery: %d %s %v", status, answer, err)
		}
	}
	fine()
	n.order(t, `{"mode":"fail"}`)
	if status, _, _ := predict(); status != 503 || health() != 503 {
		t.Errorf("failing node answers %d", status)
	}
	n.order(t, `{"status":500}`)
	if status, _, _ := predict(); status != 500 {
		t.Errorf("failing node answers %d, want the status that was ordered", status)
	}
	fine()

	n.order(t, `{"mode":"hang"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.Address()+"/predict", strings.NewReader(`{"id":"1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hanging node answered: %v", err)
	}
	fine()

	n.order(t, `{"mode":"refuse"}`)
	if _, err := net.Dial("tcp", n.Address()); err == nil {
		t.Error("a refusing node accepts connections")
	}
	fine()

	n.order(t, `{"mode":"reset"}`)
	if status, answer, err := predict(); status != http.StatusOK || err == nil || !strings.HasPrefix(`{"id":"1","node":"`+n.Address(), answer) {
		t.Errorf("a resetting node: %d %q %v", status, answer, err)
	}
	fine()

	for _, wrong := range []string{`{"mode":"x"}`, `{"co_tenant":1}`, `{"slowdown":-1}`, `{"status":200}`, `{`} {
		status, answer, err := call(http.MethodPut, "http://"+n.ControlAddress(), wrong)
		if err != nil || status != http.StatusBadRequest || !strings.Contains(answer, "error") {
			t.Errorf("%s: %d %s %v", wrong, status, answer, err)
		}
	}
	if s := n.State().Settings; s.Mode != OK || s.Status != 500 || s.CoTenant != 0 {
		t.Errorf("wrong orders changed the settings: %+v", s)
	}
}

func TestColdNodeIsSlowFromItsFirstRequest(t *testing.T) {
	n := start(t, Config{Service: 10 * time.Millisecond, Cold: 200 * time.Millisecond, ColdFactor: 10})
	time.Sleep(250 * time.Millisecond) // idling does not warm it
	begin := time.Now()
	if _, _, err := call(http.MethodPost, "http://"+n.Address()+"/predict", `{"id":"1"}`); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("the first request took %v", took)
	}
	for deadline := time.Now().Add(10 * time.Second); n.State().Cold; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the node stays cold")
		}
	}
}

// The gateway's own sources must be able to read what the node says.
func TestTelemetryIsRead(t *testing.T) {
	agent, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, Config{Agent: agent, AgentReports: "share"})
	n.order(t, `{"co_tenant":0.85}`)
	for deadline := time.Now().Add(10 * time.Second); n.State().Utilization < 0.84; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v: the co-tenant does not show", n.State())
		}
	}
	for _, test := range []struct{ kind, url string }{
		{"json", "http://" + n.Address() + "/gpu/status"},
		{"dcgm", "http://" + n.Address() + "/metrics"},
	} {
		source, err := gpuprobe.Open(gpuprobe.Config{Kind: test.kind, Address: test.url})
		if err != nil {
			t.Fatal(err)
		}
		sample, err := source.Read(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", test.kind, err)
		}
		if u := sample.GPUUtilization().Or(-1); u < 0.8 || u > 0.9 {
			t.Errorf("%s: utilisation %v", test.kind, u)
		}
		if m := sample.GPUMemoryUtilization().Or(-1); m < 0.49 || m > 0.51 {
			t.Errorf("%s: memory %v", test.kind, m)
		}
		if test.kind == "json" && (sample.Queue.Or(-1) != 0 || sample.InFlight.Or(-1) != 0 || !sample.Healthy.Or(false)) {
			t.Errorf("%s: %+v", test.kind, sample)
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	conn, err := net.Dial("tcp", agent)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if line, err := io.ReadAll(conn); err != nil || !bytes.Equal(line, []byte("15%\n")) {
		t.Errorf("agent says %q, %v", line, err)
	}
}

func TestServiceTimesHaveTheirMean(t *testing.T) {
	n := start(t, Config{Service: 20 * time.Millisecond, Sigma: 0.5, Seed: 1})
	var sum time.Duration
	const times = 20_000
	for range times {
		sum += n.work()
	}
	if mean := sum / times; mean < 19500*time.Microsecond || mean > 20500*time.Microsecond {
		t.Errorf("mean of %v, want 20 ms", mean)
	}
}
