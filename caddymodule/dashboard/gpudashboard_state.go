package dashboard

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

// historyLength is how many samples the page draws, and how far back a share of
// the requests goes.
const historyLength = 60

// dashboardState is what the page shows, and its JSON twin.
type dashboardState struct {
	Time  time.Time        `json:"time"`
	Nodes []dashboardNode  `json:"nodes"`
	Pools []gpupolicy.Pool `json:"pools"`
	Picks []gpupolicy.Pick `json:"picks"`
	// ShareSeconds is the time over which shares are counted, 0 for all of it.
	ShareSeconds float64 `json:"share_seconds"`
}

// dashboardNode is a node as /gpu/nodes has it, with what changes over time.
type dashboardNode struct {
	gpupolicy.Status
	// Share of the requests of its pool, 0 to 1.
	Share   float64         `json:"share"`
	History dashboardSeries `json:"history"`
}

// dashboardSeries are the last samples, the newest last; as many as there were
// since somebody began to look. What was not known, or no longer counted, is nil.
type dashboardSeries struct {
	InFlight []*float64 `json:"in_flight"`
	P50MS    []*float64 `json:"p50_ms"`
	GPU      []*float64 `json:"gpu_percent"`
}

// sampler looks at the nodes for all viewers together, and remembers a little.
type sampler struct {
	interval time.Duration

	mu     sync.Mutex
	latest *dashboardState
	series map[string]*dashboardSeries
	counts []sampledCounts // the newest last
}

type sampledCounts struct {
	at    time.Time
	picks map[string]uint64
}

func newSampler(interval time.Duration) *sampler {
	return &sampler{interval: interval, series: make(map[string]*dashboardSeries)}
}

// take returns the state as it is, not older than half an interval.
func (s *sampler) take(now time.Time) *dashboardState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.latest != nil {
		switch age := now.Sub(s.latest.Time); {
		case age >= 0 && age < s.interval/2:
			return s.latest
		case age > 10*s.interval || age < 0: // nobody looked: lines would lie
			clear(s.series)
			s.counts = nil
		}
	}
	s.latest = s.add(now, gpupolicy.TakeSnapshot())
	return s.latest
}

func (s *sampler) add(now time.Time, snapshot gpupolicy.Snapshot) *dashboardState {
	nodes := snapshot.Nodes
	state := &dashboardState{Time: now, Pools: snapshot.Pools, Picks: snapshot.Picks, Nodes: make([]dashboardNode, len(nodes))}
	counts := sampledCounts{now, make(map[string]uint64, len(nodes))}
	for _, n := range nodes {
		for _, picked := range n.Picks {
			counts.picks[n.Address] += picked
		}
	}
	if len(s.counts) == historyLength {
		s.counts = append(s.counts[:0], s.counts[1:]...)
	}
	s.counts = append(s.counts, counts)
	first := sampledCounts{}
	if len(s.counts) > 1 {
		first = s.counts[0]
		state.ShareSeconds = now.Sub(first.at).Seconds()
	}
	pools := make(map[int]uint64)
	since := func(n gpupolicy.Status) uint64 { return counts.picks[n.Address] - first.picks[n.Address] }
	for _, n := range nodes {
		pools[n.Pool] += since(n)
	}
	seen := make(map[string]bool, len(nodes))
	for i, n := range nodes {
		seen[n.Address] = true
		series := s.series[n.Address]
		if series == nil {
			series = new(dashboardSeries)
			s.series[n.Address] = series
		}
		series.add(n)
		node := dashboardNode{Status: n, History: series.copy()}
		if all := pools[n.Pool]; all > 0 {
			node.Share = float64(since(n)) / float64(all)
		}
		state.Nodes[i] = node
	}
	for addr := range s.series {
		if !seen[addr] {
			delete(s.series, addr)
		}
	}
	return state
}

func (s *dashboardSeries) add(n gpupolicy.Status) {
	push := func(list *[]*float64, v *float64) {
		if len(*list) == historyLength {
			*list = append((*list)[:0], (*list)[1:]...)
		}
		*list = append(*list, v)
	}
	push(&s.InFlight, new(float64(n.InFlight)))
	push(&s.P50MS, n.P50MS)
	var gpu *float64
	if t := n.Telemetry; t != nil && !t.Stale {
		if v, ok := t.GPUUtilizationPercent.Get(); ok {
			gpu = &v
		}
	}
	push(&s.GPU, gpu)
}

func (s *dashboardSeries) copy() dashboardSeries {
	return dashboardSeries{slices.Clone(s.InFlight), slices.Clone(s.P50MS), slices.Clone(s.GPU)}
}
