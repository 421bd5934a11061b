package e2e

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-infer/caddy-infer"
	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

// runCaddy runs Caddy in this process until the test ends and returns the
// addresses that it put in place of the words ADDR_….
func runCaddy(t *testing.T, caddyfile string) map[string]string {
	t.Helper()
	config, addrs := adaptCaddy(t, caddyfile)
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping caddy: %v", err)
		}
	})
	return addrs
}

// adaptCaddy is runCaddy's first half: the configuration.
func adaptCaddy(t *testing.T, caddyfile string) (config []byte, addrs map[string]string) {
	t.Helper()
	addrs = make(map[string]string)
	caddyfile = regexp.MustCompile(`ADDR_\w+`).ReplaceAllStringFunc(caddyfile, func(word string) string {
		if addrs[word] == "" {
			addrs[word] = freeAddr(t)
		}
		return addrs[word]
	})
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(config, &root); err != nil {
		t.Fatal(err)
	}
	admin, ok := root["admin"].(map[string]any) // if the Caddyfile has the option
	if !ok {
		admin = map[string]any{"disabled": true}
	}
	admin["config"] = map[string]any{"persist": false}
	root["admin"] = admin
	root["storage"] = map[string]any{"module": "file_system", "root": t.TempDir()}
	root["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": "WARN"}}}
	config, err = json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return config, addrs
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
