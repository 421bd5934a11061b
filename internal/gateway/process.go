//go:build unix

// Package gateway runs reverse proxies as processes: this repository's binary,
// and the peers it is compared with.
package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

// Binaries are the paths of what Build made.
type Binaries struct{ Caddy, Node string }

// Build compiles Caddy with this repository's modules, and the simulated node,
// into dir.
func Build(ctx context.Context, dir string) (Binaries, error) {
	const module = "github.com/caddy-infer/caddy-infer"
	cmd := exec.CommandContext(ctx, "go", //nolint:gosec // nothing comes from outside
		"build", "-o", dir+string(filepath.Separator),
		module+"/cmd/caddy", module+"/internal/simnode/cmd/simnode")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Binaries{}, fmt.Errorf("building: %w\n%s", err, out)
	}
	return Binaries{filepath.Join(dir, "caddy"), filepath.Join(dir, "simnode")}, nil
}

// Gateway is a running process.
type Gateway struct {
	// Addr is where it takes requests, host:port.
	Addr string
	// Admin is the address of Caddy's admin endpoint, empty for others.
	Admin string

	dir    string
	cmd    *exec.Cmd
	log    *os.File
	done   chan struct{}
	reload func(*Gateway) error
}

// Places are the free addresses and the directory of a gateway that is yet to
// be configured.
type Places struct{ Addr, Admin, Dir string }

// Reserve finds places.
func Reserve() (p Places, err error) {
	if p.Addr, err = loopback.FreeAddr(); err != nil {
		return p, err
	}
	if p.Admin, err = loopback.FreeAddr(); err != nil {
		return p, err
	}
	p.Dir, err = os.MkdirTemp("", "gateway")
	return p, err
}

// Caddy starts the binary with a Caddyfile that listens at p.Addr and has its
// admin endpoint at p.Admin.
func Caddy(p Places, binary, caddyfile string) (*Gateway, error) {
	file := filepath.Join(p.Dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(caddyfile), 0o600); err != nil {
		return nil, err
	}
	g := &Gateway{Addr: p.Addr, Admin: p.Admin, dir: p.Dir, reload: func(g *Gateway) error {
		return g.Load(caddyfile)
	}}
	return g.start(exec.Command(binary, "run", "--config", file, "--adapter", "caddyfile"))
}

// Nginx starts nginx with a configuration that names no directory of the host.
func Nginx(p Places, config string) (*Gateway, error) {
	file := filepath.Join(p.Dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	g := &Gateway{Addr: p.Addr, dir: p.Dir, reload: signal(syscall.SIGHUP)}
	cmd := exec.Command("nginx", "-p", p.Dir, "-c", file, "-e", filepath.Join(p.Dir, "error.log"), "-g", "daemon off;") //nolint:gosec // our directory
	return g.start(cmd)
}

// HAProxy starts haproxy with a master process, which reloads.
func HAProxy(p Places, config string) (*Gateway, error) {
	file := filepath.Join(p.Dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	g := &Gateway{Addr: p.Addr, dir: p.Dir, reload: signal(syscall.SIGUSR2)}
	return g.start(exec.Command("haproxy", "-W", "-f", file))
}

func signal(s syscall.Signal) func(*Gateway) error {
	return func(g *Gateway) error { return g.cmd.Process.Signal(s) }
}

func (g *Gateway) start(cmd *exec.Cmd) (*Gateway, error) {
	log, err := os.Create(filepath.Join(g.dir, "log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+g.dir, "XDG_CONFIG_HOME="+g.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a gateway: %w", err), log.Close())
	}
	g.cmd, g.log, g.done = cmd, log, make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is told to end, and may end with any status
		close(g.done)
	}()
	if err := g.ready(); err != nil {
		text := g.Log()
		g.Stop()
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return g, nil
}

// ready waits until something listens.
func (g *Gateway) ready() error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-g.done:
			return errors.New("the gateway ended at once")
		default:
		}
		resp, err := http.Get("http://" + g.Addr + "/health")
		if err == nil {
			_ = resp.Body.Close()
			return nil
		}
	}
	return errors.New("the gateway does not answer")
}

// URL returns http:// followed by the address and the path.
func (g *Gateway) URL(path string) string { return "http://" + g.Addr + path }

// PID is the process's, that of the master where there are several.
func (g *Gateway) PID() int { return g.cmd.Process.Pid }

// Reload loads the configuration again, as if it had changed.
func (g *Gateway) Reload() error { return g.reload(g) }

// Load gives a running Caddy another Caddyfile, through its admin endpoint.
func (g *Gateway) Load(caddyfile string) error {
	req, err := http.NewRequest(http.MethodPost, "http://"+g.Admin+"/load", strings.NewReader(caddyfile))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	req.Header.Set("Cache-Control", "must-revalidate") // even if nothing changed
	_, err = g.do(req)
	return err
}

// Call sends a request to Caddy's admin endpoint and returns its answer. A
// connection that breaks is tried again: just after a reload it may have been
// made to the former endpoint. So the request must be one that may arrive twice.
func (g *Gateway) Call(method, path, body string) (answer []byte, err error) {
	for range 10 {
		var req *http.Request
		req, err = http.NewRequest(method, "http://"+g.Admin+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		var broken *url.Error
		if answer, err = g.do(req); !errors.As(err, &broken) {
			return answer, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return answer, err
}

// adminClient makes a connection for each call: a reload moves the endpoint.
var adminClient = &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}

func (g *Gateway) do(req *http.Request) ([]byte, error) {
	resp, err := adminClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the admin endpoint: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the admin endpoint's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %s %s", req.Method, req.URL.Path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}

// Log returns what the gateway printed.
func (g *Gateway) Log() string {
	text, err := os.ReadFile(filepath.Join(g.dir, "log"))
	if err != nil {
		return err.Error()
	}
	more, _ := os.ReadFile(filepath.Join(g.dir, "error.log")) // nginx's
	return string(text) + string(more)
}

// Stop ends the process with its children and removes its directory.
func (g *Gateway) Stop() {
	_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-g.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
	<-g.done
	_ = g.log.Close()
	_ = os.RemoveAll(g.dir)
}
