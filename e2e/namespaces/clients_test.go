//go:build linux

package namespaces

import (
	"context"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// clients are users of one address, who try another one once where that fails.
type clients struct {
	address, other string
	begin          time.Time
	stop           context.CancelFunc
	done           chan struct{}
	result         *openloop.Result
}

// startClients sends rate requests per second to an address until it is stopped,
// for five minutes at the most. Clients of one begin have one clock.
func startClients(t *testing.T, begin time.Time, seed uint64, rate float64, address, other string) *clients {
	ctx, stop := context.WithCancel(context.Background())
	c := &clients{address: address, other: other, begin: begin, stop: stop, done: make(chan struct{})}
	arrivals := openloop.Poisson(seed, openloop.Phase{For: 5 * time.Minute, Rate: rate})
	go func() {
		defer close(c.done)
		c.result = openloop.Run(ctx, openloop.Config{
			URL: "http://" + address + ":8080/predict", Retry: "http://" + other + ":8080/predict",
			ConnectTimeout: 2 * time.Second, Timeout: 20 * time.Second, NodeHeader: simnode.NodeHeader, Begin: c.begin,
		}, arrivals)
	}()
	t.Cleanup(func() { c.end() })
	return c
}

func (c *clients) end() *openloop.Result {
	c.stop()
	<-c.done
	return c.result
}

// now is the time since the clients' first request.
func (c *clients) now() time.Duration { return time.Since(c.begin) }
