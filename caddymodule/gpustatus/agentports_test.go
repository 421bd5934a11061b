package gpustatus

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// ask connects, sends and reads to the end.
func ask(addr, send string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, send); err != nil {
		return "", err
	}
	line, err := io.ReadAll(conn)
	return string(line), err
}

const onePort = `http://ADDR_NODE {
	gpu_status {
		telemetry off
		agent_check ADDR_AGENT
	}
}`

func TestAnAgentPortSaysOneLineAndCloses(t *testing.T) {
	c := caddyrun.Start(t, onePort)
	for _, send := range []string{"", "\n", strings.Repeat("x", 512)} {
		if line, err := ask(c.Addr("AGENT"), send); err != nil || line != "up ready 100%\n" {
			t.Errorf("to %.3q it says %q, %v", send, line, err)
		}
	}
}

func TestAnAgentPortStaysOpenThroughReloads(t *testing.T) {
	c := caddyrun.Start(t, onePort)
	var stop atomic.Bool
	var asked atomic.Int64
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for !stop.Load() {
				line, err := ask(c.Addr("AGENT"), "")
				if err != nil || line != "up ready 100%\n" {
					t.Errorf("during a reload: %q, %v", line, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 10 {
		// Every other configuration has other options, and so another agent.
		c.Reload(strings.Replace(onePort, "telemetry off", "telemetry off\n\t\tinterval "+[]string{"1s", "2s"}[i%2], 1))
		before := asked.Load()
		eventually(t, "answers after the reload", func() bool { return asked.Load() > before+4 || t.Failed() })
	}
	stop.Store(true)
	callers.Wait()
	c.Reload("http://ADDR_NODE {\n\tgpu_status {\n\t\ttelemetry off\n\t}\n}")
	if _, err := net.Dial("tcp", c.Addr("AGENT")); err == nil {
		t.Error("the port is open without a configuration that names it")
	}
}

func TestTheNewestConfigurationAnswersAtAnAgentPort(t *testing.T) {
	c := caddyrun.Start(t, onePort)
	c.Reload(strings.Replace(onePort, "telemetry off", "telemetry off\n\t\tapi http://127.0.0.1:1", 1))
	eventually(t, "the new configuration's verdict", func() bool {
		line, err := ask(c.Addr("AGENT"), "")
		return err == nil && strings.HasPrefix(line, "down #api: ")
	})
}

func TestAPortIsNotOpenedByAConfigurationThatFails(t *testing.T) {
	c := caddyrun.Start(t, onePort)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := strings.Replace(onePort, "agent_check ADDR_AGENT", "agent_check ADDR_AGENT\n\t\tagent_check "+taken.Addr().String(), 1)
	if err := c.Load(other); err == nil || !strings.Contains(err.Error(), "opening agent port") {
		t.Errorf("error %v", err)
	}
	if line, err := ask(c.Addr("AGENT"), ""); err != nil || line != "up ready 100%\n" {
		t.Errorf("the former configuration's port says %q, %v", line, err)
	}
	if err := c.Load(strings.Replace(onePort, "agent_check ADDR_AGENT", "agent_check ADDR_AGENT\n\t\tagent_check ADDR_AGENT", 1)); err == nil ||
		!strings.Contains(err.Error(), "given twice") {
		t.Errorf("error %v", err)
	}
}

// Callers that say nothing, and more of them than there are slots, must not
// keep the port from anybody for longer than the deadline.
func TestSilentCallersDoNotBlockAnAgentPort(t *testing.T) {
	address, err := caddy.ParseNetworkAddress("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := listen(address)
	if err != nil {
		t.Fatal(err)
	}
	user := &agentPort{line: func() string { return "up\n" }}
	p.use(user)
	for range maxAgentConns + 8 {
		conn, err := net.Dial("tcp", p.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	if line, err := ask(p.listener.Addr().String(), ""); err != nil || line != "up\n" {
		t.Errorf("%q, %v", line, err)
	}
	p.leave(user)
	if err := p.Destruct(); err != nil {
		t.Error(err)
	}
}
