//go:build linux

package namespaces

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// A wire is a switch, to which the tests' own namespace is connected, as the
// clients' network.
type wire struct {
	t      *testing.T
	name   string
	router string // the tests' address, with prefix
	hosts  int
}

func newWire(t *testing.T, name, router string) *wire {
	t.Helper()
	if missing != nil {
		t.Skip(missing)
	}
	must(t, "ip", "link", "add", name, "type", "bridge", "forward_delay", "0")
	must(t, "ip", "address", "add", router, "dev", name)
	must(t, "ip", "link", "set", name, "up")
	t.Cleanup(func() { must(t, "ip", "link", "delete", name) })
	return &wire{t: t, name: name, router: router}
}

// A host is a network namespace with one interface, eth0.
type host struct {
	t    *testing.T
	name string
	wire string
	port string // the switch's end of its cable
	dir  string // its data
}

func (w *wire) host(name, address string) *host {
	w.t.Helper()
	w.hosts++
	h := &host{t: w.t, name: name, wire: w.name, port: fmt.Sprintf("%s-%d", w.name, w.hosts), dir: w.t.TempDir()}
	must(w.t, "ip", "netns", "add", name)
	w.t.Cleanup(func() { must(w.t, "ip", "netns", "delete", name) })
	must(w.t, "ip", "link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", name)
	must(w.t, "ip", "link", "set", h.port, "master", w.name, "up")
	must(w.t, "ip", "-n", name, "link", "set", "lo", "up")
	must(w.t, "ip", "-n", name, "address", "add", address, "dev", "eth0")
	must(w.t, "ip", "-n", name, "link", "set", "eth0", "up")
	gateway, _, _ := strings.Cut(w.router, "/")
	must(w.t, "ip", "-n", name, "route", "add", "default", "via", gateway)
	return h
}

// unplug pulls the host's cable; plug puts it back.
func (h *host) unplug() { h.t.Helper(); must(h.t, "ip", "link", "set", h.port, "down") }
func (h *host) plug()   { h.t.Helper(); must(h.t, "ip", "link", "set", h.port, "up") }

// isolate takes the host off the switch, of which it learns nothing; rejoin puts
// it back.
func (h *host) isolate() { h.t.Helper(); must(h.t, "ip", "link", "set", h.port, "nomaster") }
func (h *host) rejoin()  { h.t.Helper(); must(h.t, "ip", "link", "set", h.port, "master", h.wire) }

// has tells whether the host has an address now.
func (h *host) has(address string) bool {
	h.t.Helper()
	out, err := exec.Command("ip", "-n", h.name, "-oneline", "address").CombinedOutput()
	if err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return bytes.Contains(out, []byte(" "+address+"/"))
}

// command is one that runs on the host, as a machine of that name.
func (h *host) command(name string, args ...string) *exec.Cmd {
	enter := []string{"--net=/run/netns/" + h.name, "unshare", "--uts", "sh", "-c", `hostname "$0" && exec "$@"`, h.name, name}
	cmd := exec.Command("nsenter", append(enter, args...)...) //nolint:gosec // the tests' own
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+h.dir, "XDG_CONFIG_HOME="+h.dir, "STICKY_SECRET=the same on all hosts")
	return cmd
}

// process is a program that runs on a host.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	log   string
	done  chan struct{}
	once  sync.Once
}

var logs struct {
	sync.Mutex
	n int
}

// start runs a program until it is killed, at the latest when the test ends.
func (h *host) start(name string, args ...string) *process {
	h.t.Helper()
	logs.Lock()
	logs.n++
	log, err := os.Create(filepath.Join(h.dir, fmt.Sprintf("%s.%d.log", filepath.Base(name), logs.n)))
	logs.Unlock()
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := h.command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	p := &process{t: h.t, cmd: cmd, log: log.Name(), done: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // it is killed
		close(p.done)
	}()
	h.t.Cleanup(func() {
		if h.t.Failed() {
			h.t.Logf("%s on %s: … %s", filepath.Base(name), h.name, p.tail())
		}
		p.end(syscall.SIGTERM)
	})
	return p
}

// tail is the end of what the process logged, without Caddy's everyday.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, `"level":"info"`) || strings.Contains(line, "changed state") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

// kill ends the process as a crash does.
func (p *process) kill() { p.end(syscall.SIGKILL) }

func (p *process) end(s syscall.Signal) {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(s)
		_ = p.stdin.Close()
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	})
}

// example is a file of the repository's examples.
func example(t *testing.T, path ...string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join(append([]string{"..", "..", "examples"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// caddy runs the gateway as the unit does, with the example's own file.
func (h *host) caddy(file string) *process {
	h.t.Helper()
	return h.start(binaries.Caddy, "run", "--config", file, "--adapter", "caddyfile")
}

// keepalived runs Debian's with the example's own file.
func (h *host) keepalived(file string) *process {
	h.t.Helper()
	return h.start("keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file", file,
		"--pid", filepath.Join(h.dir, "keepalived.pid"), "--vrrp_pid", filepath.Join(h.dir, "vrrp.pid"))
}

// node runs a model service on the host's port 8081.
func (h *host) node(flags ...string) *process {
	h.t.Helper()
	return h.start(binaries.Node, append([]string{
		"-name=" + h.name, "-listen=:8081", "-control=:9081", "-slots=4", fmt.Sprintf("-service=%v", service), "-sigma=0.25",
	}, flags...)...)
}

// page runs what stands for a page on the host's port 7860.
func (h *host) page() *process {
	h.t.Helper()
	return h.start(binaries.Node, "-name="+h.name+"-page", "-listen=:7860", "-control=:9082", "-slots=4", fmt.Sprintf("-service=%v", service))
}

// nodeState asks the model service of a host what it does.
func nodeState(address string) (s simnode.State, err error) {
	resp, err := controlClient.Get("http://" + address + ":9081")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

var controlClient = &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// A node takes 50 ms and four requests at a time: 80 a second.
const service = 50 * time.Millisecond

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waited 90 s for %s", what)
}

// answers tells whether a URL answers 200.
func answers(url string) bool {
	resp, err := controlClient.Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
