//go:build unix

package gradio

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

var binaries gateway.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "gradio")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binaries, err = gateway.Build(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// node is a Python server that can be killed and started again.
type node struct {
	t          *testing.T
	name, addr string
	ready      string // a path that answers 200 once it serves
	command    func(port string) *exec.Cmd
	cmd        *exec.Cmd
	log        string
}

func newNode(t *testing.T, name, ready string, command func(port string) *exec.Cmd) *node {
	t.Helper()
	addr, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, name: name, addr: addr, ready: ready, command: command, log: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(func() {
		n.kill()
		if text, err := os.ReadFile(n.log); err == nil && t.Failed() {
			t.Logf("node %s: %.3000s", n.name, text)
		}
	})
	n.start()
	return n
}

// start begins to start the server; await waits for it.
func (n *node) start() {
	n.t.Helper()
	_, port, _ := strings.Cut(n.addr, ":")
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.cmd = n.command(port)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.Env = append(os.Environ(), "GRADIO_ANALYTICS_ENABLED=False", "HF_HUB_OFFLINE=1", "OMP_NUM_THREADS=1", "GRADIO_TEMP_DIR="+filepath.Dir(n.log))
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) await() {
	n.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + n.addr + n.ready)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	n.t.Fatalf("node %s does not serve", n.name)
}

// kill ends the server and its workers as a crash of the host would.
func (n *node) kill() {
	if n.cmd == nil {
		return
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	_ = n.cmd.Wait()
	n.cmd = nil
}

// startGateway puts the binary before the nodes, with options of model_proxy.
func startGateway(t *testing.T, options string, nodes ...*node) *gateway.Gateway {
	t.Helper()
	places, err := gateway.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	var to []string
	for _, n := range nodes {
		to = append(to, n.addr)
	}
	g, err := gateway.Caddy(places, binaries.Caddy, fmt.Sprintf(`{
	admin %s
	persist_config off
	auto_https off
	servers {
		listener_wrappers {
			handover
		}
	}
}

http://%s {
	model_proxy %s {
		%s
	}
}
`, places.Admin, places.Addr, strings.Join(to, " "), strings.ReplaceAll(options, "\n", "\n\t\t")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gateway: %.6000s", g.Log())
		}
		g.Stop()
	})
	return g
}
