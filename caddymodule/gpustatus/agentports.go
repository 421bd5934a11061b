package gpustatus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() { caddy.RegisterModule(new(AgentPorts)) }

// AgentPorts opens the agent ports of `gpu_status` handlers once a
// configuration really runs. It is there by itself wherever a handler has
// `agent_checks`, and has no options.
type AgentPorts struct {
	ports []*agentPort // not yet open
	open  []*agentPort
}

// agentPort is one address of one configuration.
type agentPort struct {
	address caddy.NetworkAddress
	line    func() string
	shared  *sharedPort
}

// CaddyModule returns the Caddy module information.
func (*AgentPorts) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "gpu_agent_ports",
		New: func() caddy.Module { return new(AgentPorts) },
	}
}

// add is called by handlers while they are provisioned.
func (a *AgentPorts) add(listen string, line func() string) error {
	address, err := listenAddress(listen)
	if err != nil {
		return fmt.Errorf("agent_check %s: %w", listen, err)
	}
	for _, p := range a.ports {
		if p.address.String() == address.String() {
			return fmt.Errorf("agent_check %s: given twice", listen)
		}
	}
	a.ports = append(a.ports, &agentPort{address: address, line: line})
	return nil
}

func listenAddress(listen string) (caddy.NetworkAddress, error) {
	address, err := caddy.ParseNetworkAddressWithDefaults(replace(listen), "tcp", 0)
	switch {
	case err != nil:
		return address, err
	case address.IsUnixNetwork():
		return address, nil
	case address.Network != "tcp" && address.Network != "tcp4" && address.Network != "tcp6":
		return address, errors.New("want a TCP port or a unix socket")
	case address.StartPort == 0:
		return address, errors.New("want a port, such as :9777")
	}
	return address, nil
}

// Start opens the ports.
func (a *AgentPorts) Start() error {
	for _, p := range a.ports {
		shared, _, err := sharedPorts.LoadOrNew(p.address.String(), func() (caddy.Destructor, error) {
			return listen(p.address)
		})
		if err != nil {
			return errors.Join(fmt.Errorf("opening agent port %s: %w", p.address, err), a.Stop())
		}
		p.shared = shared.(*sharedPort)
		p.shared.use(p)
		a.open = append(a.open, p)
	}
	return nil
}

// Stop gives the ports back. Those that the next configuration has too stay
// open throughout.
func (a *AgentPorts) Stop() error {
	errs := make([]error, 0, len(a.open))
	for _, p := range a.open {
		p.shared.leave(p)
		_, err := sharedPorts.Delete(p.address.String())
		errs = append(errs, err)
	}
	a.open = nil
	return errors.Join(errs...)
}

// sharedPorts are the open listeners by their address. They live here and not
// with a configuration, so that a reload loses no connection.
var sharedPorts = caddy.NewUsagePool()

// Bounds of an agent port.
const (
	maxAgentConns = 64
	agentDeadline = 2 * time.Second
	maxAgentSend  = 1 << 10 // what HAProxy's agent-send may be
)

// sharedPort is a listener; the newest configuration that uses it answers.
type sharedPort struct {
	listener net.Listener
	slots    chan struct{}
	conns    sync.WaitGroup
	closing  atomic.Bool

	mu    sync.Mutex
	users []*agentPort
}

func listen(address caddy.NetworkAddress) (*sharedPort, error) {
	l, err := address.Listen(context.Background(), 0, net.ListenConfig{})
	if err != nil {
		return nil, err
	}
	listener, ok := l.(net.Listener)
	if !ok {
		return nil, fmt.Errorf("network %s has no connections", address.Network)
	}
	p := &sharedPort{listener: listener, slots: make(chan struct{}, maxAgentConns)}
	p.conns.Go(p.serve)
	return p, nil
}

// Destruct closes the port and waits for its connections, which are short.
func (p *sharedPort) Destruct() error {
	p.closing.Store(true)
	err := p.listener.Close()
	p.conns.Wait()
	return err
}

func (p *sharedPort) use(user *agentPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = append(p.users, user)
}

func (p *sharedPort) leave(user *agentPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = slices.DeleteFunc(p.users, func(u *agentPort) bool { return u == user })
}

// line is what the newest user says.
func (p *sharedPort) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.users) == 0 {
		return ""
	}
	return p.users[len(p.users)-1].line()
}

func (p *sharedPort) serve() {
	pause := time.Millisecond
	for {
		// Beyond its slots the port lets callers wait, as any full server does.
		p.slots <- struct{}{}
		conn, err := p.listener.Accept()
		if err != nil {
			<-p.slots
			if p.closing.Load() {
				return
			}
			// Out of file descriptors, perhaps: it passes.
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
			continue
		}
		pause = time.Millisecond
		p.conns.Go(func() {
			defer func() { <-p.slots }()
			p.answer(conn)
		})
	}
}

// answer writes the line. What the caller sent is read before closing, or the
// kernel would reset the connection and the line could be lost with it.
func (p *sharedPort) answer(conn net.Conn) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(agentDeadline)) != nil {
		return
	}
	if _, err := io.WriteString(conn, p.line()); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxAgentSend))
	}
}

// Interface guards.
var _ caddy.App = (*AgentPorts)(nil)
