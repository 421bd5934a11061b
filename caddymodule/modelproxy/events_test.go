package modelproxy

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func init() {
	caddy.RegisterModule(slowStarter{})
	caddy.RegisterModule(recorder{})
	httpcaddyfile.RegisterHandlerDirective("test_slow", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(slowStarter), nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_slow", httpcaddyfile.After, "reverse_proxy")
}

// slowStarter takes its time to be set up, as a certificate or a model may.
type slowStarter struct{}

func (slowStarter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_slow", New: func() caddy.Module { return new(slowStarter) }}
}

func (slowStarter) Provision(caddy.Context) error {
	time.Sleep(time.Second)
	return nil
}

// recorder keeps the events that it hears of.
type recorder struct{}

var heard struct {
	sync.Mutex
	changes []string
}

func (recorder) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_heard", New: func() caddy.Module { return new(recorder) }}
}

func (*recorder) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (recorder) Handle(_ context.Context, e caddy.Event) error {
	heard.Lock()
	defer heard.Unlock()
	heard.changes = append(heard.changes, e.Data["node"].(string)+" "+e.Data["new"].(string))
	return nil
}

// A node may rise while the rest of the configuration is still being set up.
// Who wants to know of it hears once the configuration runs.
func TestChangesBeforeTheConfigurationRunsAreHeardOf(t *testing.T) {
	a := newNode(t)
	text := proxy("health /health {\n\tinterval 100ms\n\tstart down\n}", a)
	text = strings.Replace(text, "{\n", "{\n\tevents {\n\t\ton gpu.node_state test_heard\n\t}\n", 1)
	caddyrun.Start(t, text+"http://ADDR_SLOW {\n\ttest_slow\n}\n")
	if s := a.status(t); s.State == "down" {
		t.Error("the node did not rise while the configuration was being set up")
	}
	eventually(t, "the event", func() bool {
		heard.Lock()
		defer heard.Unlock()
		return slices.Contains(heard.changes, a.addr+" slow_start") || slices.Contains(heard.changes, a.addr+" up")
	})
}

func (slowStarter) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(w, r)
}
