package handover

import (
	"context"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
)

// onStopping prepares the end of a configuration: Caddy calls it after the new
// one has started and before the old one's servers shut down.
type onStopping struct{ config *caddyevents.App }

// Handle hands over what waits, and asks the HTTP/2 clients to go.
func (s onStopping) Handle(context.Context, caddy.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), goAwayWait)
	defer cancel()
	asked := make([]*http2, 0)
	for _, l := range listenersOf(s.config) {
		for _, c := range l.startLeaving() {
			if h := c.leaveServer(); h != nil {
				go h.sayGoAway(c.Conn, ctx.Done())
				asked = append(asked, h)
			}
		}
	}
	for _, h := range asked {
		select {
		case <-h.over:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// listenersOf returns those listeners of a configuration that are not leaving.
func listenersOf(config *caddyevents.App) []*listener {
	addresses.Lock()
	defer addresses.Unlock()
	var ls []*listener
	for _, a := range addresses.m {
		for _, l := range a.listeners {
			if l.config == config && !l.isEnding() {
				ls = append(ls, l)
			}
		}
	}
	return ls
}
