package gpupolicy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// Status is what the admin API, the commands and the pages say of a node. Where
// several handlers use the node, what depends on one of them is as the newest
// sees it.
type Status struct {
	// Address is the upstream's dial string.
	Address string `json:"address"`
	// State is up, slow_start, avoided, ejected, probing, down, draining or drained,
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
	// milliseconds, of requests that find room at the node; null while nothing
	// is known.
	LatencyMS *float64 `json:"latency_ms"`
	// P50MS and P95MS are percentiles of the time to first byte of the last
	// 128 answers of the last minute, as clients waited for them, in
	// milliseconds; null without any.
	P50MS *float64 `json:"p50_ms"`
	P95MS *float64 `json:"p95_ms"`
	// Knee is up to how many requests in flight the node has shown to serve
	// without slowing down, null while nothing is known.
	Knee *float64 `json:"knee"`
	// Limit is how many requests the node is held to, null without a limit.
	// Limits that are learned move all the time.
	Limit *int `json:"limit"`
	// Score is the expected time to first byte of the next request, in
	// seconds; the lowest wins.
	Score   float64 `json:"score"`
	Factors Factors `json:"factors"`
	// Weight is what counts: OrderedWeight if there is one, otherwise
	// ConfiguredWeight.
	Weight           float64  `json:"weight"`
	ConfiguredWeight float64  `json:"configured_weight"`
	OrderedWeight    *float64 `json:"ordered_weight"`
	Tier             int      `json:"tier"`
	// Pool is the same number for the nodes among which one handler chooses,
	// the newest of those that use the node. It means nothing beyond one
	// answer; 0 is for nodes that no handler uses.
	Pool int `json:"pool"`
	// Picks are the requests sent to the node, by why it was picked.
	Picks map[string]uint64 `json:"picks"`
	// Ejections is how often failures ejected the node.
	Ejections uint64 `json:"ejections"`
	// Failures counts the requests that the node failed.
	Failures uint64 `json:"failures"`
	// Telemetry is what the node says of itself, null where nothing is
	// configured to tell.
	Telemetry *TelemetryStatus `json:"telemetry"`
	// Warnings are for people: a model other than its neighbours'.
	Warnings []string `json:"warnings,omitempty"`
}

// Factors are the parts of a score:
//
//	score = latency × load / knee, and from four fifths of latency up below the knee
type Factors struct {
	LatencyMS float64 `json:"latency_ms"` // expected, in milliseconds, with room at the node
	Slowdown  float64 `json:"slowdown"`   // the factor in latency for others' work on the GPU
	Load      float64 `json:"load"`       // requests with the next one, others' included
	Knee      float64 `json:"knee"`       // as learned, or by weight until then
	Weight    float64 `json:"weight"`
	Warmth    float64 `json:"warmth"` // the share of its requests it gets: 1, less in slow start
}

// TelemetryStatus is what a node says of itself.
type TelemetryStatus struct {
	gpuprobe.Report
	// AgeSeconds is how old the oldest source's newest report is, null before
	// the first; Stale, that it no longer counts.
	AgeSeconds *float64 `json:"age_seconds"`
	Stale      bool     `json:"stale"`
	// ForeignShare is the share of the GPU's time that others take.
	ForeignShare float64 `json:"foreign_share"`
	// Errors say why a source can't be read.
	Errors []string `json:"errors,omitempty"`
}

// quantilesOf is how old answers count for percentiles.
const quantilesOf = time.Minute

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
	pools := make(map[*Policy]int)
	for _, v := range theCollector.views(now) {
		told[v.member.node] = true
		if pools[v.policy] == 0 {
			pools[v.policy] = len(pools) + 1
		}
		s := newStatus(v)
		s.Pool = pools[v.policy]
		all = append(all, s)
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
		Factors:          newFactors(e.Factors),
		Weight:           e.Factors.Weight,
		ConfiguredWeight: v.member.weight,
		Tier:             v.member.tier,
		Picks:            make(map[string]uint64),
		Ejections:        n.Ejections(),
		Failures:         n.Failures(),
	}
	if q, ok := n.Quantiles(clock(), quantilesOf, 0.5, 0.95); ok {
		p50, p95 := 1000*q[0].Seconds(), 1000*q[1].Seconds()
		s.P50MS, s.P95MS = &p50, &p95
	}
	if l, ok := n.Latency(); ok {
		ms := 1000 * l.Seconds()
		s.LatencyMS = &ms
	}
	if knee, ok := n.Knee(); ok {
		s.Knee = &knee
	}
	if w, ok := n.OrderedWeight(); ok {
		s.OrderedWeight = &w
	}
	if v.policy != nil {
		if limit := v.policy.limit(v.member); limit > 0 {
			s.Limit = &limit
		}
	}
	s.Telemetry = v.member.telemetry(clock())
	if v.policy != nil {
		if other := v.policy.digests.conflict(n.Addr()); other != "" {
			s.Warnings = append(s.Warnings, "its model_digest is not that of "+other)
		}
	}
	for _, r := range balance.Reasons() {
		s.Picks[r.String()] = n.Picks(r)
	}
	why, at := reason(&e, n)
	s.Reason = why
	s.Since = epoch.Add(at)
	return located{Status: s, state: e.State, policy: v.policy, member: v.member}
}

// telemetry is what the member's sources have told, nil without any.
func (m *member) telemetry(now time.Duration) *TelemetryStatus {
	if len(m.sources) == 0 {
		return nil
	}
	var all gpuprobe.Sample
	t := &TelemetryStatus{ForeignShare: m.node.ForeignShare(), Stale: m.node.Stale(now)}
	for _, s := range m.sources {
		s.mu.Lock()
		sample, err := s.latest, s.err
		s.mu.Unlock()
		if err != nil {
			t.Errors = append(t.Errors, err.Error())
		}
		if !sample.MeasuredAt.IsZero() {
			gpuprobe.Merge(&all, &sample)
		}
	}
	if !all.MeasuredAt.IsZero() {
		age := max(0, (now - all.MeasuredAt.Sub(epoch)).Seconds())
		t.AgeSeconds = &age
	}
	t.Report = gpuprobe.NewReport(&all)
	return t
}

// reason says why the node is in its state, and since when.
func reason(e *balance.Explanation, n *balance.Node) (why string, since time.Duration) {
	s := e.State
	if c, ok := n.LastChange(); ok && c.New == s {
		return c.Reason, c.At
	}
	switch s {
	case balance.Draining, balance.Drained:
		since, _ = n.Drained()
		return "drained by order", since
	case balance.Avoided:
		if e.Hung {
			return "it has not answered for long", n.Met()
		}
		return "its telemetry", n.Met()
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
