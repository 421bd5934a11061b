package gpupolicy

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// maxPending bounds the changes that wait for slow event handlers; more than
// that are logged but not emitted.
const maxPending = 1024

// notifier emits the Caddy event gpu.node_state, with node, old, new and
// reason, for every change of a node's state. Event handlers run within Emit
// and may take their time (exec), so they must not run within a request: a
// goroutine that lives as long as there is something to emit calls them, in
// order.
//
// Health checks find nodes up or down while the configuration is still being
// set up. Who subscribed hears nothing before its events app has started, and
// Caddy's contexts may not be read while modules are loaded, so those changes
// wait until Caddy says that the configuration runs.
type notifier struct {
	events *caddyevents.App
	ctx    caddy.Context
	logger *zap.Logger

	mu      sync.Mutex
	pending []balance.Change
	started bool
	running bool
}

// provision must be called before anything can change.
func (n *notifier) provision(ctx caddy.Context, logger *zap.Logger) error {
	app, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting events app: %w", err)
	}
	n.events, n.ctx, n.logger = app.(*caddyevents.App), ctx, logger
	return n.events.On("started", n)
}

// Handle hears that the configuration runs.
func (n *notifier) Handle(context.Context, caddy.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started = true
	n.wake()
	return nil
}

// wake is called with the lock held.
func (n *notifier) wake() {
	if n.started && !n.running && len(n.pending) > 0 {
		n.running = true
		go n.run()
	}
}

// changed hears of a change and must not wait.
func (p *Policy) changed(c balance.Change) {
	if c.Old != c.New {
		p.log(c)
		p.notifier.notify(c)
	}
}

func (p *Policy) log(c balance.Change) {
	p.logger.Info("node changed state",
		zap.String("node", c.Node.Addr()),
		zap.Stringer("old", c.Old),
		zap.Stringer("new", c.New),
		zap.String("reason", c.Reason))
}

func (n *notifier) notify(c balance.Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) >= maxPending {
		n.logger.Warn("dropping a gpu.node_state event: its handlers are too slow", zap.String("node", c.Node.Addr()))
		return
	}
	n.pending = append(n.pending, c)
	n.wake()
}

func (n *notifier) run() {
	for {
		n.mu.Lock()
		if len(n.pending) == 0 {
			n.running = false
			n.mu.Unlock()
			return
		}
		c := n.pending[0]
		n.pending = n.pending[1:]
		n.mu.Unlock()
		n.emit(c)
	}
}

func (n *notifier) emit(c balance.Change) {
	defer func() {
		if r := recover(); r != nil {
			n.logger.Error("a handler of gpu.node_state panicked", zap.Any("panic", r))
		}
	}()
	n.events.Emit(n.ctx, "gpu.node_state", map[string]any{
		"node":   c.Node.Addr(),
		"old":    c.Old.String(),
		"new":    c.New.String(),
		"reason": c.Reason,
	})
}
