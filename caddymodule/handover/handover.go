// Package handover makes a reload of Caddy's configuration cost no request: its
// listener wrapper keeps the listening sockets and hands waiting connections
// from the old configuration's server to the new one's.
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(Handover))
}

// Handover is a listener wrapper for HTTP servers that makes a reload cost no
// request:
//
//   - One listening socket per address lives as long as any configuration uses
//     the address, so that no connection waits in the queue of a socket that is
//     closed.
//   - When the old configuration's server shuts down, HTTP/1.1 connections that
//     wait for a request, or have sent a part of one, go on in the new one's,
//     under TLS as well. No request is handled twice: what a handler has seen
//     stays where it is.
//   - HTTP/2 clients are asked to open no new streams before the old server
//     stops taking them.
//
// It has no options and must be the last of the listener wrappers:
//
//	{
//		servers {
//			listener_wrappers {
//				handover
//			}
//		}
//	}
//
// In JSON it is {"wrapper": "handover"} in a server's listener_wrappers.
//
// TLS connections are handed over if both configurations have the same TLS
// connection policies and ask for no client certificates. Shared addresses do
// not speak Multipath TCP. HTTP/3 is left alone.
type Handover struct {
	server   *caddyhttp.Server
	config   *caddyevents.App
	trust    string
	logger   *zap.Logger
	handlers sync.Once
}

// CaddyModule returns the Caddy module information.
func (*Handover) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.listeners.handover",
		New: func() caddy.Module { return new(Handover) },
	}
}

// Provision hooks the wrapper into its server.
func (h *Handover) Provision(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return errors.New("handover wraps the listeners of HTTP servers only")
	}
	if err := checkPosition(server.ListenerWrappersRaw); err != nil {
		return err
	}
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	h.config = app.(*caddyevents.App)
	if err := h.config.On("stopping", onStopping{h.config}); err != nil {
		return fmt.Errorf("subscribing to the end of the configuration: %w", err)
	}
	h.server = server
	h.logger = ctx.Logger()
	h.trust = trustOf(server)
	server.RegisterConnContext(h.connContext)
	server.RegisterConnState(func(nc net.Conn, state http.ConnState) {
		if c := ofOurs(nc); c != nil {
			c.stateChanged(state)
		}
	})
	return nil
}

// checkPosition wants the wrapper at the end: what a later one reads ahead or
// keeps about a connection would be lost by a hand-over.
func checkPosition(wrappers []json.RawMessage) error {
	for i, raw := range wrappers {
		var module struct {
			Wrapper string `json:"wrapper"`
		}
		if err := json.Unmarshal(raw, &module); err != nil {
			return fmt.Errorf("reading listener wrapper %d: %w", i, err)
		}
		if ours, last := module.Wrapper == "handover", i == len(wrappers)-1; ours != last {
			return errors.New("handover must be there once, as the last of the listener wrappers: move it to the end, after tls")
		}
	}
	return nil
}

// trustOf describes what the TLS handshakes of a server prove: the policies'
// JSON. Client certificates are not carried over at all, because what they are
// checked against may lie in files that a reload has read anew.
func trustOf(server *caddyhttp.Server) string {
	for _, policy := range server.TLSConnPolicies {
		if policy.ClientAuthentication != nil {
			return ""
		}
	}
	policies, err := json.Marshal(server.TLSConnPolicies)
	if err != nil {
		return ""
	}
	return string(policies)
}

// WrapListener puts the address's shared socket below the listener and the
// hand-over of connections above it.
func (h *Handover) WrapListener(l net.Listener) net.Listener {
	chain := chainOf(l)
	key := keyOf(chain.bottom.Addr())
	addresses.Lock()
	defer addresses.Unlock()
	addr := addresses.m[key]
	if addr == nil {
		addr = &address{key: key}
	}
	f, err := h.feedFor(addr, chain.bottom)
	if err != nil {
		h.logger.Debug("each configuration keeps its own listening socket", zap.String("address", key), zap.Error(err))
	} else {
		l = chain.replaceBottom(l, f)
	}
	wrapped := newListener(l, addr, chain.tls, settings{
		idleTimeout:       time.Duration(h.server.IdleTimeout),
		readHeaderTimeout: time.Duration(h.server.ReadHeaderTimeout),
		maxHead:           h.server.MaxHeaderBytes + 16<<10,
		trust:             h.trust,
		config:            h.config,
	})
	addr.join(wrapped)
	go wrapped.run()
	return wrapped
}

// feedFor makes the address's shared socket, or retires the one that Caddy has
// opened beside it.
func (h *Handover) feedFor(addr *address, bottom net.Listener) (*feed, error) {
	own, err := socketOf(bottom)
	if err != nil {
		return nil, err
	}
	var early []net.Conn
	if addr.socket != nil {
		early = retire(own)
	} else {
		addr.socket, early, err = shareSocket(own)
		if err != nil {
			return nil, err
		}
		go addr.socket.run()
	}
	f := addr.socket.feed(bottom, net.KeepAliveConfig{
		Enable:   h.server.KeepAliveInterval >= 0,
		Interval: time.Duration(h.server.KeepAliveInterval),
		Idle:     time.Duration(h.server.KeepAliveIdle),
		Count:    h.server.KeepAliveCount,
	})
	f.early = early
	return f, nil
}

// connContext lets a request's handler find the connection, and puts that
// handler behind the question whether the connection is still this server's.
// Every connection passes here before it is served.
func (h *Handover) connContext(ctx context.Context, nc net.Conn) context.Context {
	c := ofOurs(nc)
	if c == nil {
		return ctx
	}
	if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
		h.handlers.Do(func() { server.Handler = once(server.Handler) })
	}
	return context.WithValue(ctx, connKey{}, c)
}

type connKey struct{}

// once passes a request to the handler unless another server has it by now, and
// tells the connection.
func once(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok || r.ProtoMajor != 1 {
			next.ServeHTTP(w, r)
			return
		}
		if !c.enter(r) {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
		c.leave()
	})
}

// UnmarshalCaddyfile sets up the wrapper from Caddyfile tokens:
//
//	handover
func (h *Handover) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume wrapper name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		return d.Errf("handover has no option '%s'", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner     = (*Handover)(nil)
	_ caddy.ListenerWrapper = (*Handover)(nil)
	_ caddyfile.Unmarshaler = (*Handover)(nil)
)
