package gpupolicy

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// Modules that tests load into Caddy beside the policy.

func init() {
	caddy.RegisterModule(new(testSource))
	caddy.RegisterModule(new(testEvents))
	caddy.RegisterModule(new(panicWriter))
	httpcaddyfile.RegisterHandlerDirective("test_panic_writer", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(panicWriter), nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_panic_writer", httpcaddyfile.Before, "reverse_proxy")
}

// testSource is a dynamic upstream source that a test sets.
type testSource struct{}

var sourced struct {
	sync.Mutex
	dials []string
}

func setSource(dials ...string) {
	sourced.Lock()
	defer sourced.Unlock()
	sourced.dials = dials
}

func (*testSource) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.upstreams.test", New: func() caddy.Module { return new(testSource) }}
}

func (*testSource) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*testSource) GetUpstreams(*http.Request) ([]*reverseproxy.Upstream, error) {
	sourced.Lock()
	defer sourced.Unlock()
	var all []*reverseproxy.Upstream
	for _, dial := range sourced.dials {
		all = append(all, &reverseproxy.Upstream{Dial: dial})
	}
	return all, nil
}

// testEvents records gpu.node_state events.
type testEvents struct{}

var recorded struct {
	sync.Mutex
	events []map[string]any
}

func recordedEvents(t testing.TB) []map[string]any {
	t.Helper()
	recorded.Lock()
	defer recorded.Unlock()
	return append([]map[string]any(nil), recorded.events...)
}

func (*testEvents) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_record", New: func() caddy.Module { return new(testEvents) }}
}

func (*testEvents) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*testEvents) Handle(_ context.Context, e caddy.Event) error {
	recorded.Lock()
	defer recorded.Unlock()
	recorded.events = append(recorded.events, e.Data)
	return nil
}

// panicWriter is a handler whose response writer panics midway.
type panicWriter struct{}

func (*panicWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_panic_writer", New: func() caddy.Module { return new(panicWriter) }}
}

func (*panicWriter) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return next.ServeHTTP(panickingWriter{w}, r)
}

type panickingWriter struct{ http.ResponseWriter }

func (panickingWriter) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }
