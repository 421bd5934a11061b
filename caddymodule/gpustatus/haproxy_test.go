package gpustatus

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// haproxy is a running HAProxy that is asked by its stats socket.
type haproxy struct {
	t      *testing.T
	socket string
}

func startHAProxy(t *testing.T, config string) *haproxy {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("HAProxy is not installed: apt-get install haproxy")
	}
	dir, err := os.MkdirTemp("", "haproxy") // short: socket paths may have 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &haproxy{t: t, socket: filepath.Join(dir, "stats")}
	file := filepath.Join(dir, "haproxy.cfg")
	config = "global\n\tstats socket " + h.socket + " mode 600 level admin\n" + config
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(program, "-db", "-f", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("HAProxy's log:\n%s", &log)
		}
	})
	eventually(t, "HAProxy's stats socket", func() bool {
		conn, err := net.Dial("unix", h.socket)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return h
}

// server returns a server's line of "show stat" by column.
func (h *haproxy) server(name string) map[string]string {
	h.t.Helper()
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		h.t.Fatal(err)
	}
	table := csv.NewReader(conn)
	table.FieldsPerRecord = -1
	rows, err := table.ReadAll()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, row := range rows[1:] {
		columns := make(map[string]string, len(row))
		for i, name := range rows[0] {
			if i < len(row) {
				columns[name] = row[i]
			}
		}
		if columns["svname"] == name {
			return columns
		}
	}
	h.t.Fatalf("no server %s in HAProxy's stats", name)
	return nil
}

func (h *haproxy) number(server, column string) int {
	h.t.Helper()
	n, err := strconv.Atoi(h.server(server)[column])
	if err != nil {
		h.t.Fatalf("%s of %s: %v", column, server, err)
	}
	return n
}

// HAProxy's own view: the weight follows the GPU, traffic follows the weight,
// and the server goes down, up and into a drain by what the agent says.
func TestHAProxyFollowsTheAgentPort(t *testing.T) {
	g, api := newGPU(t), newService(t)
	drain := filepath.Join(t.TempDir(), "drain")
	c := caddyrun.Start(t, `http://ADDR_NODE {
	respond model
}
http://ADDR_STATUS {
	gpu_status {
		telemetry nvidia_smi `+g.program+`
		interval 200ms
		api `+api.URL+`/health
		drain_file `+drain+`
		agent_check ADDR_AGENT
	}
}`)
	agentHost, agentPort, err := net.SplitHostPort(c.Addr("AGENT"))
	if err != nil {
		t.Fatal(err)
	}
	front := caddyrun.FreeAddr(t)
	h := startHAProxy(t, fmt.Sprintf(`defaults
	mode http
	timeout connect 5s
	timeout client 10s
	timeout server 10s
listen models
	bind %[1]s
	balance roundrobin
	server watched %[2]s weight 100 check inter 1s agent-check agent-addr %[3]s agent-port %[4]s agent-inter 200ms agent-send "hello\n"
	server other %[2]s weight 100
listen trap
	bind %[5]s
	server default_weight %[2]s check agent-check agent-addr %[3]s agent-port %[4]s agent-inter 200ms
`, front, c.Addr("NODE"), agentHost, agentPort, caddyrun.FreeAddr(t)))

	is := func(status string) func() bool {
		return func() bool { return strings.HasPrefix(h.server("watched")["status"], status) }
	}
	eventually(t, "HAProxy to hear the agent", func() bool { return strings.Contains(h.server("watched")["agent_status"], "L7OK") })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("HAProxy sees %v", h.server("watched"))
		}
	})
	eventually(t, "the full weight", func() bool { return is("UP")() && h.number("watched", "weight") == 100 })

	g.set(97, 4096)
	eventually(t, "a lower weight of the busy node", func() bool { return h.number("watched", "weight") <= 50 })
	// Why the documentation asks for weights of 100.
	eventually(t, "HAProxy to round a share of its default weight 1 down", func() bool { return h.number("default_weight", "weight") == 0 })
	if !is("UP")() {
		t.Errorf("a busy node is %s", h.server("watched")["status"])
	}
	const requests = 120
	before := h.number("watched", "stot")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for range requests {
		resp, err := client.Get("http://" + front)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if n := h.number("watched", "stot") - before; n < requests/10 || n > requests*4/10 {
		t.Errorf("the busy node got %d of %d requests, its equal neighbour the rest", n, requests)
	}

	g.set(20, 4096)
	eventually(t, "the full weight again", func() bool { return h.number("watched", "weight") == 100 })

	api.status.Store(500)
	eventually(t, "the server to be down", is("DOWN"))
	if s := h.server("watched"); !strings.Contains(s["agent_desc"]+s["last_agt"], "api: status 500") {
		t.Errorf("HAProxy's reason: %q, %q", s["agent_desc"], s["last_agt"])
	}
	api.status.Store(200)
	eventually(t, "the server to be up", is("UP"))

	if err := os.WriteFile(drain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the drain", is("DRAIN"))
	if err := os.Remove(drain); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the drain", func() bool { return is("UP")() && h.number("watched", "weight") == 100 })
}
