package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// StillDrainedError says that a node could not be put back.
type StillDrainedError struct {
	Address string
	Err     error // why the last try failed
}

func (e *StillDrainedError) Error() string {
	return fmt.Sprintf("%s IS STILL DRAINED: %v", e.Address, e.Err)
}

func (e *StillDrainedError) Unwrap() error { return e.Err }

// putBack resumes a node, come what may: it outlives the drill's context, and
// insists. A drain order that is still under way must not arrive after it.
func (d *drill) putBack(r *Result, drainEnded <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), insist)
	defer cancel()
	select {
	case <-drainEnded:
	case <-time.After(insist / 2):
	}
	for tries := 1; ; tries++ {
		_, err := call(ctx, func() (Node, error) { return d.gw.Resume(r.Address) })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrUnknownNode):
			d.note(r, "the gateway no longer knows it")
			return nil
		case tries == 1:
			d.Log("%s: can't be put back yet, trying for %v: %v", r.Address, insist, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			r.StillDrained = true
			e := &StillDrainedError{r.Address, err}
			d.Log("%v", e) // at once: a panic may be on its way past the caller
			return e
		}
	}
}

// call ends with the context or callLimit, whatever the function does.
func call[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		v, err := f()
		answers <- answer{v, err}
	}()
	var none T
	select {
	case a := <-answers:
		return a.v, a.err
	case <-time.After(callLimit):
		return none, fmt.Errorf("no answer within %v", callLimit)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// candidates are the nodes that may be taken out.
func (d *drill) candidates(all []Node) ([]Node, error) {
	if len(all) == 0 {
		return nil, errors.New("no nodes: no reverse_proxy with lb_policy gpu has met one yet")
	}
	var nodes []Node
	for _, addr := range d.Nodes {
		n, ok := find(all, addr)
		if !ok {
			var known []string
			for _, n := range all {
				known = append(known, n.Address)
			}
			return nil, fmt.Errorf("no node %q; the nodes are %s", addr, strings.Join(known, ", "))
		}
		if slices.ContainsFunc(nodes, func(m Node) bool { return m.Address == addr }) {
			return nil, fmt.Errorf("--node %s is given twice", addr)
		}
		if err := d.ready(all, addr); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	if len(d.Nodes) > 0 {
		return nodes, nil
	}
	var unfit []error
	for _, n := range all {
		if n.InUse && serving(n.State) {
			if err := d.ready(all, n.Address); err != nil {
				unfit = append(unfit, err)
				continue
			}
			nodes = append(nodes, n)
		} else {
			d.skip("%s: it is %s", n.Address, describe(n))
		}
	}
	switch {
	case len(nodes) > 0:
		for _, err := range unfit {
			d.skip("%v", err)
		}
		return nodes, nil
	case len(unfit) > 0:
		return nil, unfit[0]
	default:
		return nil, errors.New("no node is in service")
	}
}

// ready returns why the node must not be taken out now.
func (d *drill) ready(all []Node, addr string) error {
	others := 0
	taken, _ := find(all, addr)
	for _, n := range all {
		switch {
		case n.Address == addr:
			if !n.InUse || !serving(n.State) {
				return fmt.Errorf("%s can't be taken out: it is %s", addr, describe(n))
			}
		case isDrained(n.State) && !d.Force:
			return fmt.Errorf("%s is drained already: put it back first (caddy gpu resume %s), or --force leaves it so and takes out the others", n.Address, n.Address)
		case n.Pool == taken.Pool && serving(n.State):
			others++
		}
	}
	if _, ok := find(all, addr); !ok {
		return fmt.Errorf("%s is gone", addr)
	}
	if others == 0 && !d.Force {
		return fmt.Errorf("%s is the only node of its pool in service: without it requests are lost; --force takes it out all the same", addr)
	}
	return nil
}

func serving(state string) bool {
	return state == balance.Up.String() || state == balance.SlowStart.String()
}

func isDrained(state string) bool {
	return state == balance.Draining.String() || state == balance.Drained.String()
}

func describe(n Node) string {
	if !n.InUse {
		return "used by no handler"
	}
	return n.State
}

// drained returns the node, or an error if it no longer is under the order.
func drained(all []Node, addr string) (Node, error) {
	n, ok := find(all, addr)
	if !ok || !isDrained(n.State) {
		return n, fmt.Errorf("%s is no longer drained: someone else put it back, or Caddy was started anew", addr)
	}
	return n, nil
}

func find(all []Node, addr string) (Node, bool) {
	i := slices.IndexFunc(all, func(n Node) bool { return n.Address == addr })
	if i < 0 {
		return Node{}, false
	}
	return all[i], true
}

// shares are the parts of all picks between two looks, of nodes that had any.
func shares(before, after []Node) map[string]float64 {
	grown := make(map[string]float64)
	sum := 0.0
	for _, n := range after {
		was, _ := find(before, n.Address)
		if n.Picks > was.Picks {
			grown[n.Address] = float64(n.Picks - was.Picks)
			sum += grown[n.Address]
		}
	}
	for addr := range grown {
		grown[addr] /= sum
	}
	return grown
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
