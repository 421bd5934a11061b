package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is a user's text.
const secret = "MARIA-PHONE-4711"

// cluster is a gateway with its nodes and its clients' way to it: requests go
// round the nodes that are not drained.
type cluster struct {
	mu      sync.Mutex
	nodes   []Node
	ordered map[string]time.Time
	next    int
	log     strings.Builder

	slowStart time.Duration
	took      time.Duration                          // by each answer
	answer    func(by *Node) (*http.Response, error) // in place of 200
	order     func(verb, address string) error       // before an order takes effect
	silent    func(verb string) error                // before any call of the admin API
}

func newCluster(addresses ...string) *cluster {
	c := &cluster{ordered: make(map[string]time.Time), slowStart: 10 * time.Second, took: 20 * time.Millisecond}
	for _, a := range addresses {
		c.nodes = append(c.nodes, Node{Address: a, State: "up", InUse: true, Tier: 1, Pool: 1})
	}
	return c
}

func (c *cluster) node(address string) *Node {
	for i := range c.nodes {
		if c.nodes[i].Address == address {
			return &c.nodes[i]
		}
	}
	return nil
}

func (c *cluster) Nodes() ([]Node, error) {
	if c.silent != nil {
		if err := c.silent("nodes"); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.nodes {
		n := &c.nodes[i]
		if n.State == "slow_start" && time.Since(c.ordered[n.Address]) >= c.slowStart {
			n.State = "up"
		}
	}
	return append([]Node(nil), c.nodes...), nil
}

func (c *cluster) Drain(address string) (Node, error) { return c.give("drain", address, "drained") }
func (c *cluster) Resume(address string) (Node, error) {
	return c.give("resume", address, "slow_start")
}

func (c *cluster) give(verb, address, state string) (Node, error) {
	if c.silent != nil {
		if err := c.silent(verb); err != nil {
			return Node{}, err
		}
	}
	if c.order != nil {
		if err := c.order(verb, address); err != nil {
			return Node{}, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.node(address)
	n.State = state
	c.ordered[address] = time.Now()
	return *n, nil
}

func (c *cluster) drained() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if isDrained(n.State) {
			all = append(all, n.Address)
		}
	}
	return all
}

// RoundTrip is a request through the gateway.
func (c *cluster) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	var by *Node
	for range c.nodes {
		n := &c.nodes[c.next%len(c.nodes)]
		c.next++
		if serving(n.State) && n.Pool == 1 && n.Tier == 1 {
			by = n
			n.Picks++
			break
		}
	}
	c.mu.Unlock()
	select {
	case <-time.After(c.took):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if c.answer != nil {
		if resp, err := c.answer(by); resp != nil || err != nil {
			return resp, err
		}
	}
	if by == nil {
		return respond(503), nil
	}
	return respond(200), nil
}

func respond(status int) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(secret))}
}

func (c *cluster) run(ctx context.Context, change ...func(*Load, *Options)) (*Report, error) {
	l := &Load{URL: "http://gateway/predict?text=" + secret, Body: []byte(secret), Rate: 20, Timeout: 5 * time.Second, Transport: c}
	o := Options{Hold: 10 * time.Second, Wait: time.Minute, MaxLost: 20, Log: func(f string, a ...any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		fmt.Fprintf(&c.log, f+"\n", a...)
	}}
	for _, f := range change {
		f(l, &o)
	}
	return Run(ctx, c, l, o)
}

// drilled runs a drill in virtual time. No text of a user may be in what it says.
func drilled(t *testing.T, c *cluster, ctx context.Context, change ...func(*Load, *Options)) (*Report, error) {
	t.Helper()
	r, err := c.run(ctx, change...)
	if said := c.log.String() + fmt.Sprint(err) + r.Verdict() + fmt.Sprint(r.Skipped); strings.Contains(said, secret) {
		t.Errorf("a user's text is shown: %s", said)
	}
	return r, err
}

func TestEachNodeIsTakenOutAndPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b", "c")
		var orders []string
		c.order = func(verb, address string) error {
			orders = append(orders, verb+" "+address)
			return nil
		}
		began := time.Now()
		r, err := drilled(t, c, t.Context())
		if err != nil || len(r.Nodes) != 3 {
			t.Fatalf("%v, %d nodes\n%s", err, len(r.Nodes), &c.log)
		}
		if got := strings.Join(orders, ","); got != "drain a,resume a,drain b,resume b,drain c,resume c" {
			t.Errorf("orders: %s", got)
		}
		if want := 20 * time.Since(began).Seconds(); r.Lost().Sum() != 0 || float64(r.Sent()) < want-3 || float64(r.Sent()) > want+3 {
			t.Errorf("sent %d, lost %d, want 20 a second: %.0f, 0", r.Sent(), r.Lost().Sum(), want)
		}
		for _, n := range r.Nodes {
			if n.Switch == nil || *n.Switch > 50*time.Millisecond || n.Idle == nil || *n.Idle > 50*time.Millisecond {
				t.Errorf("%s: switch %v, idle %v", n.Address, n.Switch, n.Idle)
			}
			if n.Return == nil || *n.Return < c.slowStart || *n.Return > c.slowStart+time.Second {
				t.Errorf("%s: return after %v, its slow start takes %v", n.Address, n.Return, c.slowStart)
			}
			if n.Share < 0.3 || n.Share > 0.37 || n.ShareBack < 0.3 {
				t.Errorf("%s: share %.2f, then %.2f", n.Address, n.Share, n.ShareBack)
			}
		}
		if p50, _ := r.Nodes[0].Out.Quantile(0.5); p50 != c.took {
			t.Errorf("p50 %v, want %v", p50, c.took)
		}
	})
}

func TestLossesAreCountedByWhatTheClientSaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b")
		kinds := 0
		c.answer = func(by *Node) (*http.Response, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			// Requests due before the order are the baseline's.
			if c.node("a").State != "drained" || time.Since(c.ordered["a"]) < time.Second || kinds == 4 {
				return nil, nil
			}
			kinds++
			switch kinds {
			case 1:
				return nil, errors.New("connection reset")
			case 2:
				return respond(502), nil
			case 3:
				return respond(429), nil
			default:
				return nil, context.DeadlineExceeded
			}
		}
		r, err := drilled(t, c, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := Lost{Connection: 1, Timeout: 1, ServerError: 1, OtherStatus: 1}
		if r.Nodes[0].Out.Lost != want || r.Lost() != want || !strings.Contains(r.Verdict(), "LOST 4 of") {
			t.Errorf("%+v, %s", r.Nodes[0].Out.Lost, r.Verdict())
		}
	})
}

// A gateway that answers nothing must not slow the load down, and what it
// loses is as late as its clients would find out.
func TestSlowAnswersDoNotThinTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b")
		c.took = 2 * time.Second
		r, err := drilled(t, c, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := r.Baseline.Sent(); n < 199 || n > 202 {
			t.Errorf("%d requests in 10 s, want 200", n)
		}
	})
}

func TestNodeIsPutBackWhateverHappens(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(c *cluster, interrupt context.CancelFunc)
		want    string
	}{
		"interrupted while it is out": {func(c *cluster, interrupt context.CancelFunc) {
			c.order = func(verb, _ string) error {
				if verb == "drain" {
					time.AfterFunc(3*time.Second, interrupt)
				}
				return nil
			}
		}, "context canceled"},
		"interrupted while the order is under way, which arrives late": {func(c *cluster, interrupt context.CancelFunc) {
			c.order = func(verb, _ string) error {
				if verb == "drain" {
					interrupt()
					time.Sleep(8 * time.Second)
				}
				return nil
			}
		}, "context canceled"},
		"the order is given, but its answer is lost": {func(c *cluster, _ context.CancelFunc) {
			c.silent = func(verb string) error {
				if verb == "drain" {
					c.silent = nil
					_, _ = c.give(verb, "a", "drained")
					return errors.New("connection reset")
				}
				return nil
			}
		}, "draining a: connection reset"},
		"a request panics": {func(c *cluster, _ context.CancelFunc) {
			c.answer = func(*Node) (*http.Response, error) {
				if len(c.drained()) > 0 {
					panic("in a request")
				}
				return nil, nil
			}
		}, "panic: in a request"},
		"the others lose requests": {func(c *cluster, _ context.CancelFunc) {
			c.answer = func(*Node) (*http.Response, error) {
				if len(c.drained()) > 0 {
					return respond(502), nil
				}
				return nil, nil
			}
		}, "more than --max-lost 20"},
		"the admin endpoint is away for 25 s": {func(c *cluster, _ context.CancelFunc) {
			var since time.Time
			c.silent = func(verb string) error {
				if len(c.drained()) > 0 && since.IsZero() {
					since = time.Now()
				}
				if !since.IsZero() && time.Since(since) < 25*time.Second {
					return errors.New("connection refused")
				}
				return nil
			}
		}, "looking at the nodes for 10s: connection refused"},
		"someone else put it back": {func(c *cluster, _ context.CancelFunc) {
			c.order = func(verb, address string) error {
				if verb == "drain" {
					time.AfterFunc(4*time.Second, func() { _, _ = c.give("resume", address, "slow_start") })
				}
				return nil
			}
		}, "a is no longer drained"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster("a", "b")
				ctx, interrupt := context.WithCancel(t.Context())
				defer interrupt()
				test.prepare(c, interrupt)
				_, err := drilled(t, c, ctx)
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%v, want %s", err, test.want)
				}
				time.Sleep(time.Minute)
				if left := c.drained(); len(left) > 0 {
					t.Errorf("still drained: %v\n%s", left, &c.log)
				}
			})
		})
	}
}

func TestNodeThatCannotBePutBackIsNamedLoudly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b")
		c.silent = func(verb string) error {
			if verb == "resume" {
				return errors.New("connection refused")
			}
			return nil
		}
		began := time.Now()
		r, err := drilled(t, c, t.Context())
		still, ok := errors.AsType[*StillDrainedError](err)
		if !ok || still.Address != "a" || !r.Nodes[0].StillDrained || len(r.Nodes) != 1 {
			t.Errorf("%v", err)
		}
		if !strings.Contains(c.log.String(), "a IS STILL DRAINED") {
			t.Errorf("log: %s", &c.log)
		}
		if took := time.Since(began); took < insist {
			t.Errorf("gave up after %v", took)
		}
	})
}

func TestUnknownNodeIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b")
		c.silent = func(verb string) error {
			if verb == "resume" {
				c.mu.Lock()
				c.nodes = c.nodes[1:]
				c.mu.Unlock()
				return fmt.Errorf("%w: started anew", ErrUnknownNode)
			}
			return nil
		}
		if r, err := drilled(t, c, t.Context()); err == nil || r.Nodes[0].StillDrained || !strings.Contains(err.Error(), "gone") {
			t.Errorf("%v", err)
		}
	})
}

func TestDrillRefusesWhatWouldHurt(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(c *cluster)
		change  func(l *Load, o *Options)
		want    string
		forced  bool // goes on with Force
	}{
		"no nodes":     {prepare: func(c *cluster) { c.nodes = nil }, want: "no nodes"},
		"one node":     {prepare: func(c *cluster) { c.nodes = c.nodes[:1] }, want: "a is the only node of its pool in service"},
		"one is up":    {prepare: func(c *cluster) { c.nodes[1].State = "down" }, want: "a is the only node of its pool in service", forced: true},
		"none is up":   {prepare: func(c *cluster) { c.nodes[0].State, c.nodes[1].State = "down", "ejected" }, want: "no node is in service"},
		"another pool": {prepare: func(c *cluster) { c.nodes[1].Pool = 2 }, want: "a is the only node of its pool in service"},
		"drained already": {prepare: func(c *cluster) {
			c.nodes = append(c.nodes, Node{Address: "c", State: "drained", InUse: true, Pool: 1})
		}, want: "c is drained already", forced: true},
		"unknown node":     {change: func(_ *Load, o *Options) { o.Nodes = []string{"z"} }, want: `no node "z"; the nodes are a, b`},
		"named twice":      {change: func(_ *Load, o *Options) { o.Nodes = []string{"a", "a"} }, want: "--node a is given twice"},
		"named but down":   {prepare: func(c *cluster) { c.nodes[1].State = "down" }, change: func(_ *Load, o *Options) { o.Nodes = []string{"b"} }, want: "b can't be taken out: it is down"},
		"the URL is wrong": {prepare: func(c *cluster) { c.answer = func(*Node) (*http.Response, error) { return respond(404), nil } }, want: "does not answer as it should: 404"},
		"the admin is away": {prepare: func(c *cluster) {
			c.silent = func(string) error { return errors.New("connection refused") }
		}, want: "connection refused"},
		"it is lossy already": {prepare: func(c *cluster) {
			n := 0
			c.answer = func(*Node) (*http.Response, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				if n++; n == 5 {
					return respond(500), nil
				}
				return nil, nil
			}
		}, want: "loses requests with all nodes in service", forced: true},
		"the load goes elsewhere": {prepare: func(c *cluster) {
			c.nodes[0].Pool, c.nodes[1].Pool = 2, 2
			c.answer = func(*Node) (*http.Response, error) { return respond(200), nil }
		}, want: "the load reached none of the nodes"},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(name, force), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCluster("a", "b")
					if test.prepare != nil {
						test.prepare(c)
					}
					ordered := false
					c.order = func(string, string) error { ordered = true; return nil }
					_, err := drilled(t, c, t.Context(), func(l *Load, o *Options) {
						o.Force = force
						o.MaxLost = 1000
						if test.change != nil {
							test.change(l, o)
						}
					})
					switch {
					case force && test.forced:
						if err != nil || !ordered {
							t.Errorf("with Force: %v", err)
						}
					case !force && (err == nil || !strings.Contains(err.Error(), test.want) || ordered):
						t.Errorf("%v, orders given: %t, want %s", err, ordered, test.want)
					}
				})
			})
		}
	}
}

func TestStandbysAndOtherPoolsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster("a", "b", "page-a", "page-b", "standby")
		c.nodes[2].Pool, c.nodes[3].Pool = 2, 2
		c.nodes[4].Tier = 2
		r, err := drilled(t, c, t.Context())
		if err != nil || len(r.Nodes) != 2 || len(r.Skipped) != 3 {
			t.Errorf("%v, %d nodes, skipped %v", err, len(r.Nodes), r.Skipped)
		}
		c = newCluster("a", "b", "standby")
		c.nodes[2].Tier = 2
		r, err = drilled(t, c, t.Context(), func(_ *Load, o *Options) { o.Nodes = []string{"standby"} })
		if err != nil || len(r.Nodes) != 1 || r.Nodes[0].Address != "standby" {
			t.Errorf("a node that is named: %v, %d nodes", err, len(r.Nodes))
		}
	})
}

func TestLoadsThatAreNoDrillAreRefused(t *testing.T) {
	for want, l := range map[string]Load{
		"--url":     {URL: "localhost:8080/predict", Rate: 20, Timeout: time.Second},
		"--rate":    {URL: "http://gateway", Rate: 2000, Timeout: time.Second},
		"--timeout": {URL: "http://gateway", Rate: 20},
	} {
		if err := l.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want one about %s", err, want)
		}
	}
	good := Load{URL: "https://user:" + secret + "@gateway/predict?text=" + secret, Rate: 20, Timeout: time.Second}
	if err := good.Check(); err != nil || good.place() != "https://gateway/predict" {
		t.Errorf("%v, %s", err, good.place())
	}
}
