package simnode

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

// Process is a node in a process of its own.
type Process struct {
	Addresses
	binary string
	args   []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.Closer
}

// Spawn starts the command at binary with the given flags, on ports that it
// keeps when it is started again. With the flag -agent=free it gets one for
// agent checks.
func Spawn(binary string, flags ...string) (*Process, error) {
	p, err := Prepare(binary, flags...)
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

// Prepare is Spawn without the start: its addresses are known, and nobody
// listens there yet.
func Prepare(binary string, flags ...string) (*Process, error) {
	p := &Process{binary: binary}
	for _, f := range flags {
		if f == AgentOnFreePort {
			addr, err := loopback.FreeAddr()
			if err != nil {
				return nil, err
			}
			p.Agent = addr
			f = "-agent=" + addr
		}
		p.args = append(p.args, f)
	}
	var err error
	if p.Address, err = loopback.FreeAddr(); err != nil {
		return nil, err
	}
	if p.Control, err = loopback.FreeAddr(); err != nil {
		return nil, err
	}
	return p, nil
}

// AgentOnFreePort is a flag for Spawn.
const AgentOnFreePort = "-agent=free"

// Start starts a process that was prepared or killed; more flags override those
// it was made with.
func (p *Process) Start(flags ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	args := append([]string{"-listen", p.Address, "-control", p.Control}, p.args...)
	cmd := exec.Command(p.binary, append(args, flags...)...) //nolint:gosec // the caller's own binary
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a node: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("a node did not start: %w", err)
	}
	var a Addresses
	if err := json.Unmarshal(line, &a); err != nil {
		return fmt.Errorf("reading a node's addresses: %w", err)
	}
	p.cmd, p.stdin = cmd, stdin
	return nil
}

// Kill ends the process as a crash does: without a goodbye.
func (p *Process) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = p.stdin.Close()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing a node: %w", err)
	}
	_ = cmd.Wait() // it was killed
	return nil
}

var controlClient = &http.Client{
	Timeout:   10 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true}, // the node may be another process next time
}

// Set orders something of the node: a part of Settings, in its JSON.
func (p *Process) Set(settings string) (State, error) {
	return p.control(http.MethodPut, settings)
}

// State asks the node what it does.
func (p *Process) State() (State, error) { return p.control(http.MethodGet, "") }

func (p *Process) control(method, body string) (s State, err error) {
	req, err := http.NewRequest(method, "http://"+p.Control, bytes.NewReader([]byte(body)))
	if err != nil {
		return s, err
	}
	resp, err := controlClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("ordering a node: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("ordering a node: %s", answer)
	}
	return s, json.Unmarshal(answer, &s)
}
