//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/openloop"
	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

// node is a simulated node in a process of its own.
type node struct {
	*simnode.Process
	spec nodeSpec
}

// maxConn is what a careful operator would set by hand: as many requests as the
// node has slots, and those that are on their way.
func (n *node) maxConn() int {
	return int((slots*(service+n.spec.distance) + service - 1) / service)
}

// trial is one gateway in one scenario with one seed.
type trial struct {
	scenario  *scenario
	contender *contender
	gateway   *gateway.Gateway
	nodes     []*node
	result    *openloop.Result
}

// settle is how long a gateway has to find its nodes healthy.
const settle = 2500 * time.Millisecond

// prepare starts the nodes and the gateway.
func (t *trial) prepare(b gateway.Binaries, o *options, seed uint64) error {
	for i, spec := range t.scenario.nodes {
		flags := append([]string{
			simnode.AgentOnFreePort, "-agent-reports=" + o.agent,
			fmt.Sprintf("-name=n%d", i), fmt.Sprintf("-slots=%d", slots), fmt.Sprintf("-service=%v", service),
			fmt.Sprintf("-distance=%v", spec.distance), fmt.Sprintf("-sigma=%g", o.sigma), fmt.Sprintf("-seed=%d", seed*100+uint64(i)),
		}, spec.flags...)
		p, err := simnode.Prepare(b.Node, flags...)
		if err != nil {
			return err
		}
		t.nodes = append(t.nodes, &node{p, spec})
		if spec.absent {
			continue
		}
		if err := p.Start(); err != nil {
			return err
		}
	}
	var err error
	t.gateway, err = t.contender.run(b.Caddy, t.nodes)
	return err
}

// measure sends the load and lets the events happen.
func (t *trial) measure(ctx context.Context, arrivals []time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error
	var wg sync.WaitGroup
	begin := time.Now()
	wg.Go(func() {
		for _, e := range t.scenario.events {
			select {
			case <-time.After(time.Until(begin.Add(e.at))):
			case <-ctx.Done():
				return
			}
			if err := e.do(t); err != nil {
				failed = fmt.Errorf("%s in %s at %v: %w", t.contender.name, t.scenario.name, e.at, err)
				cancel()
				return
			}
		}
	})
	t.result = openloop.Run(ctx, openloop.Config{URL: t.gateway.URL("/predict"), NodeHeader: simnode.NodeHeader, Begin: begin}, arrivals)
	wg.Wait()
	return errors.Join(failed, context.Cause(ctx))
}

func (t *trial) stop() {
	if t.gateway != nil {
		t.gateway.Stop()
	}
	for _, n := range t.nodes {
		_ = n.Kill()
	}
}

// runTogether measures several gateways at the same time, each with its own
// nodes and the same arrivals.
func runTogether(ctx context.Context, b gateway.Binaries, o *options, s *scenario, group []*contender, seed uint64) ([]*trial, error) {
	trials := make([]*trial, len(group))
	defer func() {
		for _, t := range trials {
			if t != nil {
				t.stop()
			}
		}
	}()
	for i, c := range group {
		trials[i] = &trial{scenario: s, contender: c}
		if err := trials[i].prepare(b, o, seed); err != nil {
			return nil, err
		}
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	arrivals := openloop.Poisson(seed, s.phases...)
	errs := make([]error, len(trials))
	var wg sync.WaitGroup
	for i, t := range trials {
		wg.Go(func() { errs[i] = t.measure(ctx, arrivals) })
	}
	wg.Wait()
	return trials, errors.Join(errs...)
}

// lateness is the worst trial's 99th percentile of how late requests were sent:
// how much the machine disturbed them.
func lateness(trials []*trial) (worst time.Duration) {
	for _, t := range trials {
		worst = max(worst, t.result.Lateness(99))
	}
	return worst
}
