package gpupolicy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Status is what the admin API, the commands and the pages say of a node. Where
// several handlers use the node, what depends on one of them is as the newest
// sees it.
type Status struct {
	// Address is the upstream's dial string.
	Address string `json:"address"`
	// State is up, slow_start, ejected, probing, down, draining or drained,
	// Reason why, and Since from when, at the earliest from when the node was
	// first met.
	State  string    `json:"state"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	// InUse is false for a node that no handler uses at present, and that is
	// remembered for a while or for the order it is under.
	InUse bool `json:"in_use"`
	// InFlight counts requests reserved for the node or under way.
	InFlight int `json:"in_flight"`
	// LatencyMS is the moving average of the time to first byte in
	// milliseconds, null while nothing is known.
	LatencyMS *float64 `json:"latency_ms"`
	// Score is the expected cost of the next request, in seconds per unit of
	// weight; the lowest wins.
	Score   float64 `json:"score"`
	Factors Factors `json:"factors"`
	// Weight is what counts: OrderedWeight if there is one, otherwise
	// ConfiguredWeight.
	Weight           float64  `json:"weight"`
	ConfiguredWeight float64  `json:"configured_weight"`
	OrderedWeight    *float64 `json:"ordered_weight"`
	Tier             int      `json:"tier"`
	// Picks are the requests sent to the node, by why it was picked.
	Picks map[string]uint64 `json:"picks"`
	// Ejections is how often failures ejected the node.
	Ejections uint64 `json:"ejections"`
}

// Factors are the parts of a score:
//
//	score = latency × load / (weight × warmth)
type Factors struct {
	LatencyMS float64 `json:"latency_ms"` // expected, in milliseconds
	Load      float64 `json:"load"`       // requests with the next one
	Weight    float64 `json:"weight"`
	Warmth    float64 `json:"warmth"` // 1, less in slow start
}

// located is a Status and where it comes from.
type located struct {
	Status
	state  balance.State
	policy *Policy // nil if none uses the node
	member *member
}

// Nodes returns all nodes that policies use, and those that are remembered
// without, by address.
func Nodes() []Status {
	all := statuses(clock())
	out := make([]Status, len(all))
	for i := range all {
		out[i] = all[i].Status
	}
	return out
}

// Node returns the node of an address, which may be written as in a Caddyfile,
// or an *UnknownNodeError.
func Node(addr string) (Status, error) {
	s, err := statusOf(clock(), addr)
	return s.Status, err
}

func statusOf(now time.Duration, addr string) (located, error) {
	all := statuses(now)
	names := []string{addr, canonical(addr)}
	if rest, ok := strings.CutPrefix(addr, "unix/"); ok {
		names = append(names, "unix//"+strings.TrimPrefix(rest, "/")) // two slashes are one to many clients
	}
	for _, name := range names {
		for _, s := range all {
			if s.Address == name {
				return s, nil
			}
		}
	}
	return located{}, &UnknownNodeError{Addr: addr, Known: known(now)}
}

func statuses(now time.Duration) []located {
	var all []located
	told := make(map[*balance.Node]bool)
	for _, v := range theCollector.views(now) {
		told[v.member.node] = true
		all = append(all, newStatus(v))
	}
	// Nodes that linger, or are remembered for their orders.
	var rest []*balance.Node
	nodes.All(now, func(n *balance.Node, _ bool) bool {
		if !told[n] {
			rest = append(rest, n)
		}
		return true
	})
	all = append(all, unused(now, rest)...)
	slices.SortFunc(all, func(a, b located) int { return cmp.Compare(a.Address, b.Address) })
	return all
}

// unused are nodes that no policy uses.
func unused(now time.Duration, nodes []*balance.Node) []located {
	members := make([]*member, len(nodes))
	for i, n := range nodes {
		members[i] = &member{dial: n.Addr(), node: n, weight: 1, tier: 1}
	}
	p := &Policy{balancer: balance.New(balance.Options{})}
	all := make([]located, len(nodes))
	for i, v := range p.views(now, members) {
		v.policy = nil
		all[i] = newStatus(v)
	}
	return all
}

func newStatus(v view) located {
	n, e := v.member.node, v.Explanation
	s := Status{
		Address:          n.Addr(),
		State:            e.State.String(),
		InUse:            v.policy != nil,
		InFlight:         n.InFlight(),
		Score:            e.Score,
		Factors:          Factors{1000 * e.Factors.Latency, e.Factors.Load, e.Factors.Weight, e.Factors.Warmth},
		Weight:           e.Factors.Weight,
		ConfiguredWeight: v.member.weight,
		Tier:             v.member.tier,
		Picks:            make(map[string]uint64),
		Ejections:        n.Ejections(),
	}
	if l, ok := n.Latency(); ok {
		ms := 1000 * l.Seconds()
		s.LatencyMS = &ms
	}
	if w, ok := n.OrderedWeight(); ok {
		s.OrderedWeight = &w
	}
	for _, r := range balance.Reasons() {
		s.Picks[r.String()] = n.Picks(r)
	}
	why, at := reason(e.State, n)
	s.Reason = why
	s.Since = epoch.Add(at)
	return located{Status: s, state: e.State, policy: v.policy, member: v.member}
}

// reason says why the node is in its state, and since when.
func reason(s balance.State, n *balance.Node) (why string, since time.Duration) {
	if c, ok := n.LastChange(); ok && c.New == s {
		return c.Reason, c.At
	}
	switch s {
	case balance.Draining, balance.Drained:
		since, _ = n.Drained()
		return "drained by order", since
	case balance.SlowStart:
		return "it joined nodes already serving", n.Met()
	case balance.Down:
		return "health check", n.Met()
	case balance.Ejected, balance.Probing:
		return "failures", n.Met()
	default:
		return "in service", n.Met()
	}
}
