// Package caddyrun runs a whole Caddy inside a test: a Caddyfile goes through
// the adapter and caddy.Load exactly as `caddy run` would send it, on free
// loopback ports, with its storage and its log in the test's own directory.
//
// Caddy is one per process, so a running Instance holds a lock until its test
// ends; parallel tests of one package wait for one another. Nothing is shared
// between packages.
package caddyrun

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile" // the "caddyfile" adapter

	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

// one guards the process-wide Caddy.
var one sync.Mutex

// addrToken names a free address in a Caddyfile: ADDR_API, ADDR_WEBUI.
var addrToken = regexp.MustCompile(`ADDR_[A-Z0-9]+`)

// Instance is a running Caddy.
type Instance struct {
	t     testing.TB
	dir   string
	addrs map[string]string
}

// Start runs Caddy with the given Caddyfile until the test ends, and fails the
// test if the configuration does not load.
//
// Every word ADDR_NAME is replaced by a free 127.0.0.1:port, the same one
// wherever the name appears and in later reloads; Addr gives it back:
//
//	c := caddyrun.Start(t, `http://ADDR_API {
//		respond hello
//	}`)
//	resp, err := http.Get(c.URL("API") + "/")
//
// The admin endpoint is off unless the Caddyfile has an `admin` option.
func Start(t testing.TB, caddyfile string) *Instance {
	t.Helper()
	one.Lock()
	c := &Instance{t: t, dir: t.TempDir(), addrs: make(map[string]string)}
	t.Cleanup(func() {
		defer one.Unlock()
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping caddy: %v", err)
		}
		if t.Failed() {
			t.Logf("caddy's log:\n%s", c.Log())
		}
	})
	if err := c.Load(caddyfile); err != nil {
		t.Fatal(err)
	}
	return c
}

// Addr returns the host:port that stands for ADDR_name.
func (c *Instance) Addr(name string) string {
	addr, ok := c.addrs[name]
	if !ok {
		c.t.Helper()
		c.t.Fatalf("no ADDR_%s in the Caddyfile", name)
	}
	return addr
}

// URL returns http:// followed by Addr(name).
func (c *Instance) URL(name string) string { return "http://" + c.Addr(name) }

// Reload loads another Caddyfile into the running Caddy, as `caddy reload`
// does, and fails the test if it does not load.
func (c *Instance) Reload(caddyfile string) {
	c.t.Helper()
	if err := c.Load(caddyfile); err != nil {
		c.t.Fatal(err)
	}
}

// Load is Reload for configurations that may be wrong: it returns the error
// of the adapter or of Caddy, whose former configuration then goes on running.
func (c *Instance) Load(caddyfile string) error {
	config, err := Adapt(c.fillIn(caddyfile))
	if err != nil {
		return err
	}
	config, err = c.isolate(config)
	if err != nil {
		return err
	}
	if err := caddy.Load(config, true); err != nil {
		return err
	}
	c.awaitOldServers()
	return nil
}

// awaitOldServers returns when the servers of the configuration before accept
// no more: a reload only starts their shutdown, and on a busy machine one of
// them may still take a connection, which it then answers by what it knew, or
// resets.
func (c *Instance) awaitOldServers() {
	for _, addr := range c.addrs {
		_, port, _ := net.SplitHostPort(addr)
		deadline := time.Now().Add(5 * time.Second)
		for caddy.ListenerUsage("tcp", ":"+port)+caddy.ListenerUsage("tcp", addr) > 1 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
	// Caddy counts a listener out just before it closes it.
	time.Sleep(20 * time.Millisecond)
	// A kept connection to one of them may be closed just when it is used.
	http.DefaultClient.CloseIdleConnections()
}

// Log returns what Caddy has logged so far, one JSON object per line.
func (c *Instance) Log() string {
	text, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (c *Instance) logFile() string { return filepath.Join(c.dir, "caddy.log") }

func (c *Instance) fillIn(caddyfile string) string {
	return addrToken.ReplaceAllStringFunc(caddyfile, func(token string) string {
		name := strings.TrimPrefix(token, "ADDR_")
		if _, ok := c.addrs[name]; !ok {
			c.addrs[name] = FreeAddr(c.t)
		}
		return c.addrs[name]
	})
}

// isolate keeps what Caddy writes inside the test's directory and, where the
// configuration does not ask for it, the admin endpoint closed.
func (c *Instance) isolate(config []byte) ([]byte, error) {
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		return nil, fmt.Errorf("decoding adapted configuration: %w", err)
	}
	admin, ok := root["admin"].(map[string]any)
	if !ok {
		admin = map[string]any{"disabled": true}
	}
	admin["config"] = map[string]any{"persist": false}
	root["admin"] = admin
	if _, ok := root["storage"]; !ok {
		root["storage"] = map[string]any{"module": "file_system", "root": filepath.Join(c.dir, "storage")}
	}
	if _, ok := root["logging"]; !ok {
		root["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{
			"level":   "INFO",
			"writer":  map[string]any{"output": "file", "filename": c.logFile()},
			"encoder": map[string]any{"format": "json"},
		}}}
	}
	return json.Marshal(root)
}

// Adapt turns a Caddyfile into Caddy's JSON. Errors name the file "Caddyfile"
// and the line, as they do for users.
func Adapt(caddyfile string) ([]byte, error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	config, _, err := adapter.Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return config, err
}

// FreeAddr returns a loopback address on which nothing listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addr, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
