package gpupolicy

import (
	"cmp"
	"slices"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Pick is a choice that was made, and what it weighed.
type Pick struct {
	Time time.Time `json:"time"`
	// Pool is that of the nodes, in the same answer.
	Pool int `json:"pool"`
	// Number counts the handler's picks. Not all are recorded: ten a second of
	// each reason at most.
	Number uint64 `json:"number"`
	// Node is the one that was chosen, "" if none was.
	Node string `json:"node"`
	// Reason is best, spill, probe, retry or panic; "" if none was chosen.
	Reason string `json:"reason"`
	// Ties is how many scores were so near the lowest that the lot decided
	// among them, by weight.
	Ties       int             `json:"ties"`
	Candidates []PickCandidate `json:"candidates"`
	// Omitted is how many further candidates there were.
	Omitted int `json:"omitted,omitempty"`
}

// PickCandidate is a node as a pick saw it.
type PickCandidate struct {
	Address string `json:"address"`
	Tier    int    `json:"tier"`
	// Standing is eligible, or why the node could not be, or had better not be,
	// chosen: sparing (in slow start, and not this time), tried, avoided,
	// silent, ejected, down, full or drained.
	Standing string `json:"standing"`
	// Score and Factors are as in Status.
	Score   float64 `json:"score"`
	Factors Factors `json:"factors"`
}

// Pool is the nodes among which a handler chooses, and where its requests wait.
type Pool struct {
	// Pool is the number by which Status and Pick name it, in the same answer.
	Pool int `json:"pool"`
	// Waiting is how many requests wait at the gateway, of at most Capacity; 0
	// of 0 without a queue.
	Waiting  int `json:"waiting"`
	Capacity int `json:"capacity"`
}

// Snapshot is what is known of all nodes at one time.
type Snapshot struct {
	Nodes []Status `json:"nodes"`
	Pools []Pool   `json:"pools"`
	// Picks are the last ones of every handler, the newest first.
	Picks []Pick `json:"picks"`
}

// TakeSnapshot returns all nodes, pools and recorded picks. Handlers that share
// nodes, such as one site's on HTTP and on HTTPS, have one pool.
func TakeSnapshot() Snapshot {
	all := statuses(clock())
	s := Snapshot{Nodes: make([]Status, len(all)), Pools: []Pool{}, Picks: []Pick{}}
	poolOf := make(map[string]int, len(all))
	pools := make(map[int]*Pool)
	for i, n := range all {
		s.Nodes[i] = n.Status
		if n.policy != nil {
			poolOf[n.Address] = n.Pool
			pools[n.Pool] = &Pool{Pool: n.Pool}
		}
	}
	queues := make(map[*sharedQueue]bool)
	for _, p := range theCollector.policies() {
		if m := p.members.one(); m != nil && p.queue != nil && !queues[p.queue] {
			queues[p.queue] = true
			if pool := pools[poolOf[m.dial]]; pool != nil {
				pool.Waiting += p.queue.Len()
				pool.Capacity += p.Queue.Capacity
			}
		}
		for _, r := range p.balancer.LastPicks() {
			if len(r.Candidates) > 0 {
				s.Picks = append(s.Picks, newPick(r, poolOf[r.Candidates[max(0, r.Chosen)].Addr]))
			}
		}
	}
	for _, pool := range pools {
		s.Pools = append(s.Pools, *pool)
	}
	slices.SortFunc(s.Pools, func(a, b Pool) int { return cmp.Compare(a.Pool, b.Pool) })
	slices.SortFunc(s.Picks, func(a, b Pick) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Pool, b.Pool), cmp.Compare(b.Number, a.Number))
	})
	return s
}

func newPick(r balance.PickRecord, pool int) Pick {
	p := Pick{
		Time: epoch.Add(r.At), Pool: pool, Number: r.Number, Ties: r.Ties, Omitted: r.Omitted,
		Candidates: make([]PickCandidate, len(r.Candidates)),
	}
	if r.Chosen >= 0 {
		p.Node, p.Reason = r.Candidates[r.Chosen].Addr, r.Reason.String()
	}
	for i, c := range r.Candidates {
		p.Candidates[i] = PickCandidate{
			Address: c.Addr, Tier: c.Tier, Standing: c.Standing.String(), Score: c.Score, Factors: newFactors(c.Factors),
		}
	}
	return p
}

func newFactors(f balance.Factors) Factors {
	return Factors{
		LatencyMS: 1000 * f.Latency, Slowdown: f.Slowdown, Load: f.Load, Knee: f.Knee, Weight: f.Weight, Warmth: f.Warmth,
	}
}
