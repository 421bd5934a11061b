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
	return command(addr, func(now time.Duration, n *balance.Node, before located) (tell func()) {
		c := balance.Change{Node: n, Old: before.state, Reason: "drained by order", At: now}
		_, changed := n.Drain(now, func(s balance.State) {
			c.New = s
			n.Note(c)
			if before.policy != nil {
				before.policy.notifier.notify(c)
			}
		})
		if !changed {
			return nil
		}
		return func() { before.log(c) }
	})
}

// Resume ends a drain. The node's share then grows as after a recovery.
func Resume(addr string) (Status, error) {
	return command(addr, func(now time.Duration, n *balance.Node, before located) (tell func()) {
		if !n.Resume(now) {
			return nil
		}
		return func() {
			c := balance.Change{Node: n, Old: before.state, New: n.State(now, balance.DefaultSlowStart), Reason: "resumed by order", At: now}
			if before.policy == nil {
				n.Note(c)
				before.log(c)
				return
			}
			c.New = before.policy.state(now, before.member)
			before.policy.note(c)
		}
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
	return command(addr, func(_ time.Duration, n *balance.Node, _ located) (tell func()) {
		n.OrderWeight(weight)
		return func() {
			caddy.Log().Named("gpu").Info("node's weight was ordered",
				zap.String("node", n.Addr()), zap.Float64("weight", weight), zap.Bool("configured", weight == 0))
		}
	})
}

// command gives an order while the node can't be forgotten, and tells of it
// afterwards.
func command(addr string, give func(now time.Duration, n *balance.Node, before located) (tell func())) (Status, error) {
	ordering.Lock()
	defer ordering.Unlock()
	now := clock()
	before, err := statusOf(now, addr)
	if err != nil {
		return before.Status, err
	}
	var node *balance.Node
	var tell func()
	if !nodes.With(now, before.Address, func(n *balance.Node) { node, tell = n, give(now, n, before) }) {
		return Status{}, &UnknownNodeError{Addr: addr, Known: known(now)} // gone this instant
	}
	if tell != nil {
		tell()
	}
	if after, err := statusOf(now, before.Address); err == nil {
		return after.Status, nil
	}
	return unused(now, []*balance.Node{node})[0].Status, nil // only its order had kept it
}

// log tells of a change in the name of the policy that uses the node, if any.
func (l located) log(c balance.Change) {
	p := l.policy
	if p == nil {
		p = &Policy{logger: caddy.Log().Named("gpu")}
	}
	p.log(c)
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
