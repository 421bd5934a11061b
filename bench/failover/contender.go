//go:build unix

package main

import (
	"embed"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"text/template"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// The configurations, each at what we know to be its best: all repeat a POST
// elsewhere, wait 1 s for a connection and 2 s for an answer, and check /health
// every second where they can.
//
//go:embed contenders
var configurations embed.FS

// contender is one gateway with one configuration.
type contender struct {
	name    string // as in -contenders
	title   string // in the table
	file    string
	program string // empty for this repository's binary
	queue   bool   // HAProxy's, by hand
	start   func(p gateway.Places, binary, config string) (*gateway.Gateway, error)
}

// ours is the contender that all ratios are about, stock what it is built on.
const ours, stock = "caddy-infer", "caddy"

var contenders = []*contender{
	{name: "nginx", title: "nginx least_conn", file: "nginx.conf", program: "nginx", start: startNginx},
	{name: "haproxy-agent", title: "HAProxy agent", file: "haproxy.cfg", program: "haproxy", start: startHAProxy},
	{name: "haproxy-queue", title: "HAProxy maxconn queue", file: "haproxy.cfg", program: "haproxy", queue: true, start: startHAProxy},
	{name: stock, title: "stock Caddy least_conn", file: "caddy.Caddyfile", start: gateway.Caddy},
	{name: ours, title: "caddy-infer", file: "caddy-infer.Caddyfile", start: gateway.Caddy},
}

func startNginx(p gateway.Places, _, config string) (*gateway.Gateway, error) {
	return gateway.Nginx(p, config)
}

func startHAProxy(p gateway.Places, _, config string) (*gateway.Gateway, error) {
	return gateway.HAProxy(p, config)
}

// chosen returns the contenders named in a list, all for "all".
func chosen(list string) ([]*contender, error) {
	var picked []*contender
	for name := range strings.SplitSeq(list, ",") {
		found := false
		for _, c := range contenders {
			if name == "all" || name == c.name {
				picked, found = append(picked, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("-contenders: no %q", name)
		}
	}
	for _, c := range picked {
		if c.program == "" {
			continue
		}
		if _, err := exec.LookPath(c.program); err != nil {
			return nil, fmt.Errorf("%w: install Debian's %s, or choose others with -contenders", err, c.program)
		}
	}
	return picked, nil
}

// nodeInfo is what a configuration may know of a node.
type nodeInfo struct {
	Address              string
	AgentHost, AgentPort string
	MaxConn              int // that keeps its GPU busy without a queue
	Backup               bool
}

func (c *contender) run(binary string, nodes []*node) (*gateway.Gateway, error) {
	places, err := gateway.Reserve()
	if err != nil {
		return nil, err
	}
	data := struct {
		gateway.Places
		Listen            string
		Nodes             []nodeInfo
		HasBackups, Queue bool
	}{Places: places, Listen: places.Addr, Queue: c.queue}
	for _, n := range nodes {
		host, port, err := net.SplitHostPort(n.Agent)
		if err != nil {
			return nil, err
		}
		data.Nodes = append(data.Nodes, nodeInfo{n.Address, host, port, n.maxConn(), n.spec.backup})
		data.HasBackups = data.HasBackups || n.spec.backup
	}
	t, err := template.ParseFS(configurations, "contenders/"+c.file)
	if err != nil {
		return nil, err
	}
	var config strings.Builder
	if err := t.Execute(&config, data); err != nil {
		return nil, err
	}
	g, err := c.start(places, binary, config.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return g, nil
}

// version asks a program what it is.
func (c *contender) version(binary string) string {
	args := map[string][]string{"nginx": {"nginx", "-v"}, "haproxy": {"haproxy", "-v"}, "": {binary, "version"}}[c.program]
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput() //nolint:gosec // one of ours
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
