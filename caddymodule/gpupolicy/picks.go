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

// Snapshot returns all nodes, and the last picks of the handlers that use them,
// the newest first.
func Snapshot() ([]Status, []Pick) {
	all := statuses(clock())
	out := make([]Status, len(all))
	pools := make(map[*Policy]int)
	for i, s := range all {
		out[i] = s.Status
		if s.policy != nil {
			pools[s.policy] = s.Pool
		}
	}
	var picks []Pick
	for policy, pool := range pools {
		for _, r := range policy.balancer.LastPicks() {
			picks = append(picks, newPick(r, pool))
		}
	}
	slices.SortFunc(picks, func(a, b Pick) int {
		return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.Pool, b.Pool), cmp.Compare(b.Number, a.Number))
	})
	return out, picks
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
