// Package drill takes a gateway's nodes out of service one by one under a
// light load, puts each back, and tells what that cost. It knows nothing of
// Caddy: nodes are seen and ordered through the interface Gateway.
package drill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Node is a node as the gateway tells of it.
type Node struct {
	Address  string
	State    string // the name of a balance.State
	InUse    bool
	InFlight int
	Picks    uint64 // requests that it was given so far
	Tier     int
	Pool     int // one handler chooses among the nodes of one pool; 0 is none
}

// Gateway tells of nodes and gives orders. Its methods may wait for ever.
type Gateway interface {
	Nodes() ([]Node, error)
	Drain(address string) (Node, error)
	Resume(address string) (Node, error)
}

// ErrUnknownNode is for a Resume of a node that the gateway does not know: it
// was started anew, and no order stands.
var ErrUnknownNode = errors.New("the gateway does not know the node")

// Options are how to drill.
type Options struct {
	Nodes   []string      // addresses, in this order; if empty, the pool that the load reaches
	Hold    time.Duration // how long the baseline takes, and each node stays out
	Wait    time.Duration // how long to wait for a node to become idle, and to serve again
	MaxLost int           // with more lost requests the drill ends, and the node goes back
	Force   bool          // go on where that is likely to lose requests
	// Log is told what happens meanwhile.
	Log func(format string, args ...any)
}

const (
	pollEvery = 100 * time.Millisecond
	// quiet is how long a drained node must get nothing to count as out.
	quiet = time.Second
	// callLimit is the longest that one call of the gateway may take, and
	// silence how long it may fail: a reload closes its admin endpoint for a
	// moment.
	callLimit = 5 * time.Second
	silence   = 10 * time.Second
	// insist is how long the drill tries to put a node back, every pause.
	insist = time.Minute
	pause  = 500 * time.Millisecond
)

// Run drills. The report holds what happened also when an error ended the
// drill; whether requests were lost is in the report and no error. Whatever
// happens, Run returns with its nodes put back, or with an error that joins a
// *StillDrainedError.
func Run(ctx context.Context, gw Gateway, l *Load, o Options) (*Report, error) {
	d := &drill{gw: gw, load: l, Options: o, report: new(Report)}
	nodes, err := d.Plan(ctx)
	if err != nil {
		return d.report, err
	}
	d.gen = startLoad(l, &d.report.Baseline)
	defer d.gen.abandon()
	o.Log("baseline: %g requests per second to %s for %v", l.Rate, l.place(), o.Hold)
	targets, err := d.baseline(ctx, nodes)
	if err != nil {
		return d.report, err
	}
	for _, r := range targets {
		d.report.Nodes = append(d.report.Nodes, r)
		if err := d.node(ctx, r); err != nil {
			return d.report, err
		}
	}
	d.gen.finish()
	return d.report, nil
}

// Plan checks that a drill can start, with one request, and returns the nodes
// that it would take out as far as the load reaches them.
func Plan(ctx context.Context, gw Gateway, l *Load, o Options) ([]Node, error) {
	return (&drill{gw: gw, load: l, Options: o, report: new(Report)}).Plan(ctx)
}

type drill struct {
	Options
	gw     Gateway
	load   *Load
	gen    *generator
	report *Report
}

func (d *drill) Plan(ctx context.Context) ([]Node, error) {
	all, err := call(ctx, d.gw.Nodes)
	if err != nil {
		return nil, err
	}
	nodes, err := d.candidates(all)
	if err != nil {
		return nil, err
	}
	if class, err := d.load.do(ctx); class != Answered {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s does not answer as it should: %w", d.load.place(), err)
	}
	return nodes, nil
}

// baseline looks how the gateway does with all nodes, and which the load
// reaches.
func (d *drill) baseline(ctx context.Context, nodes []Node) ([]*Result, error) {
	before, err := call(ctx, d.gw.Nodes)
	if err != nil {
		return nil, err
	}
	after := before
	if _, err := d.watch(ctx, d.Hold, &d.report.Baseline, func(_ time.Time, now []Node) (bool, error) {
		after = now
		return false, nil
	}); err != nil {
		return nil, err
	}
	if n := d.gen.lost(&d.report.Baseline); n > 0 && !d.Force {
		return nil, fmt.Errorf("the gateway loses requests with all nodes in service (%d so far): mend that first, or --force", n)
	}
	got := shares(before, after)
	if len(got) == 0 {
		return nil, fmt.Errorf("the load reached none of the nodes: does %s lead to a reverse_proxy with lb_policy gpu of this Caddy?", d.load.place())
	}
	// A light load may leave out a node that is a little slower than the
	// others, but not the pool.
	reached, preferred := make(map[int]bool), math.MaxInt
	for _, n := range after {
		if got[n.Address] > 0 {
			reached[n.Pool] = true
			preferred = min(preferred, n.Tier)
		}
	}
	var targets []*Result
	for _, n := range nodes {
		share := got[n.Address]
		switch {
		case len(d.Nodes) > 0 || share > 0 || reached[n.Pool] && n.Tier <= preferred:
			targets = append(targets, &Result{Address: n.Address, Share: share})
		case reached[n.Pool]:
			d.skip("%s: it stands by in tier %d; name it by --node to take it out", n.Address, n.Tier)
		default:
			d.skip("%s: the load reaches another pool; name it by --node to take it out", n.Address)
		}
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("none of the nodes that the load reaches can be taken out: %s", strings.Join(d.report.Skipped, "; "))
	}
	return targets, nil
}

// node takes one node out and puts it back.
func (d *drill) node(ctx context.Context, r *Result) (err error) {
	all, err := call(ctx, d.gw.Nodes)
	if err != nil {
		return err
	}
	if err := d.ready(all, r.Address); err != nil {
		return err
	}
	d.gen.book(&r.Out)
	ordered := time.Now()
	ended := make(chan struct{})
	back := false
	putBack := func() error {
		if back {
			return nil
		}
		back = true
		return d.putBack(r, ended)
	}
	defer func() { err = errors.Join(err, putBack()) }() // after a panic too
	n, err := call(ctx, func() (Node, error) {
		defer close(ended)
		return d.gw.Drain(r.Address)
	})
	if err != nil {
		return fmt.Errorf("draining %s: %w", r.Address, err)
	}
	if err := d.goOut(ctx, r, ordered, n.Picks); err != nil {
		return err
	}
	d.Log("%s: out, switched within %v; holding for %v", r.Address, rounded(*r.Switch), d.Hold)
	if _, err := d.watch(ctx, d.Hold, &r.Out, func(_ time.Time, all []Node) (bool, error) {
		_, err := drained(all, r.Address)
		return false, err
	}); err != nil {
		return err
	}
	resumed := time.Now()
	d.gen.book(&r.Back)
	if err := putBack(); err != nil {
		return err
	}
	d.Log("%s: put back, waiting until it serves again", r.Address)
	return d.comeBack(ctx, r, resumed)
}

// goOut waits until the drained node gets nothing and has nothing left.
// picks are those that the answer to the order told of.
func (d *drill) goOut(ctx context.Context, r *Result, ordered time.Time, picks uint64) error {
	last := time.Since(ordered) // the order has effect before it is answered, if all is well
	reached, err := d.watch(ctx, d.Wait, &r.Out, func(now time.Time, all []Node) (bool, error) {
		n, err := drained(all, r.Address)
		if err != nil {
			return false, err
		}
		since := now.Sub(ordered)
		if n.Picks != picks {
			last, picks = since, n.Picks
		}
		if r.Idle == nil && n.InFlight == 0 {
			r.Idle = &since
		}
		return since-last >= quiet && n.InFlight == 0, nil
	})
	r.Switch = &last
	switch {
	case err != nil:
		return err
	case time.Since(ordered)-last < quiet:
		return fmt.Errorf("%s still gets requests %v after the order", r.Address, d.Wait)
	case !reached:
		d.note(r, "still had requests under way after %v", d.Wait)
	}
	return nil
}

// comeBack waits until the node is out of slow start and serves again. That it
// gets no requests is worth a note; that it is not in service is an error.
func (d *drill) comeBack(ctx context.Context, r *Result, resumed time.Time) error {
	var first []Node
	var state string
	reached, err := d.watch(ctx, d.Wait, &r.Back, func(now time.Time, all []Node) (bool, error) {
		n, ok := find(all, r.Address)
		if !ok {
			return false, fmt.Errorf("%s is gone after it was put back", r.Address)
		}
		if first == nil {
			first = all
		}
		state = n.State
		r.ShareBack = shares(first, all)[r.Address]
		if state != balance.Up.String() || r.Share > 0 && r.ShareBack == 0 {
			return false, nil
		}
		took := now.Sub(resumed)
		r.Return = &took
		return true, nil
	})
	switch {
	case err != nil || reached:
		return err
	case !serving(state):
		return fmt.Errorf("%s was put back, but is %s after %v", r.Address, state, d.Wait)
	case r.ShareBack == 0:
		d.note(r, "%s, but got no request in %v", state, d.Wait)
	default:
		d.note(r, "%s after %v, with %.0f %% of the requests", state, d.Wait, 100*r.ShareBack)
	}
	return nil
}

// watch looks at the nodes again and again until done says so, and returns
// false if it did not within the limit. It ends early when the load or the
// gateway fails, or when the tally's losses are too many.
func (d *drill) watch(ctx context.Context, limit time.Duration, t *Tally, done func(now time.Time, all []Node) (bool, error)) (bool, error) {
	end := time.After(limit)
	well := time.Now()
	for {
		all, err := call(ctx, d.gw.Nodes)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			well = now
			if ok, err := done(now, all); ok || err != nil {
				return ok, err
			}
		case now.Sub(well) >= silence:
			return false, fmt.Errorf("looking at the nodes for %v: %w", silence, err)
		}
		if n := d.gen.lost(t); n > d.MaxLost {
			return false, fmt.Errorf("%d requests lost, more than --max-lost %d", n, d.MaxLost)
		}
		select {
		case <-time.After(pollEvery):
		case p := <-d.gen.failed:
			return false, fmt.Errorf("sending requests: panic: %v", p)
		case <-ctx.Done():
			return false, ctx.Err()
		case <-end:
			return false, nil
		}
	}
}

func (d *drill) note(r *Result, format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	r.Notes = append(r.Notes, n)
	d.Log("%s: %s", r.Address, n)
}

func (d *drill) skip(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	d.report.Skipped = append(d.report.Skipped, s)
	d.Log("skipped %s", s)
}
