package gpupolicy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// UnknownNodeError says that no handler's policy uses a node of this address.
type UnknownNodeError struct {
	Addr  string
	Known []string // sorted
}

// maxListed is how many addresses an error names.
const maxListed = 20

func (e *UnknownNodeError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("no node %q: no reverse_proxy with lb_policy gpu has met a node yet", e.Addr)
	}
	listed, more := e.Known, ""
	if len(listed) > maxListed {
		more = fmt.Sprintf(" and %d more", len(listed)-maxListed)
		listed = listed[:maxListed]
	}
	return fmt.Sprintf("no node %q; the nodes are %s%s", e.Addr, strings.Join(listed, ", "), more)
}

// ordering has orders come one after the other, so that the events of two
// tell what became of the node in the end.
var ordering sync.Mutex

// Drain takes a node out of service at once, in every handler that uses it:
// it finishes what it has and gets nothing new. The order outlives reloads,
// even ones that drop the node for a while, and ends with Resume or with the
// process.
func Drain(addr string) (Status, error) {
	return command(addr, "drained by order", func(now time.Duration, n *balance.Node) bool {
		_, changed := n.Drain(now)
		return changed
	})
}

// Resume ends a drain. The node's share then grows as after a recovery.
func Resume(addr string) (Status, error) {
	return command(addr, "resumed by order", func(now time.Duration, n *balance.Node) bool {
		return n.Resume(now)
	})
}

// SetWeight replaces a node's configured weight at once, in every handler that
// uses it. 0 returns to the configured one. The order lasts as Drain's does.
func SetWeight(addr string, weight float64) (Status, error) {
	if weight != 0 {
		if err := checkWeight(weight); err != nil {
			return Status{}, fmt.Errorf("weight: %w", err)
		}
	}
	return command(addr, "", func(_ time.Duration, n *balance.Node) bool {
		old, _ := n.OrderedWeight()
		n.OrderWeight(weight)
		if old != weight {
			caddy.Log().Named("gpu").Info("node's weight was ordered",
				zap.String("node", n.Addr()), zap.Float64("weight", weight), zap.Bool("configured", weight == 0))
		}
		return false
	})
}

// command gives an order. What changes a node's state is told as every other
// change, by the newest policy that uses the node.
func command(addr, reason string, give func(now time.Duration, n *balance.Node) (changed bool)) (Status, error) {
	ordering.Lock()
	defer ordering.Unlock()
	now := clock()
	before, err := statusOf(now, addr)
	if err != nil {
		return before.Status, err
	}
	var node *balance.Node
	changed := false
	if !nodes.With(now, before.Address, func(n *balance.Node) {
		node, changed = n, give(now, n)
	}) {
		return Status{}, &UnknownNodeError{Addr: addr, Known: known(now)} // gone this instant
	}
	if changed {
		after := node.State(now, balance.DefaultSlowStart)
		c := balance.Change{Node: node, Old: before.state, New: after, Reason: reason, At: now}
		if p := before.policy; p != nil {
			c.New = p.state(now, before.member)
			p.note(c)
		} else {
			node.Note(c)
			caddy.Log().Named("gpu").Info("node that no handler uses changed state", zap.String("node", node.Addr()),
				zap.Stringer("new", c.New), zap.String("reason", reason))
		}
	}
	after, err := statusOf(now, before.Address)
	return after.Status, err
}

// known returns the addresses of all nodes, sorted.
func known(now time.Duration) []string {
	var all []string
	nodes.All(now, func(n *balance.Node, _ bool) bool {
		all = append(all, n.Addr())
		return true
	})
	slices.Sort(all)
	return all
}

// warnOfDrained reminds of orders that outlasted an earlier configuration.
func (p *Policy) warnOfDrained() {
	for _, m := range p.members.static {
		if since, ok := m.node.Drained(); ok {
			p.logger.Warn("upstream is drained by an operator's order: it gets no requests until it is resumed",
				zap.String("node", m.dial), zap.Time("since", epoch.Add(since)))
		}
	}
}
