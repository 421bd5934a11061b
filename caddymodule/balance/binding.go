package balance

import "math"

// worthWaiting reports whether a request had better wait for a node that is
// full than go to one that has room, given the expected times to first byte of
// both in seconds, the limit of the full one, and the backlog: how long those
// who wait already will take, in seconds.
//
// Room alone is no reason: when the fast nodes are full, the next that has
// room is a slow one, and whoever takes it waits longest of all. But while it
// idles, capacity is lost, to whoever comes last. So the slow node is used when
// the backlog is longer than what it is slower: a threshold on the queue, which
// is the optimal rule for a fast and a slow server (Lin and Kumar, 1984).
func worthWaiting(room, full float64, limit int, backlog float64) bool {
	if full == 0 { // nothing is known of it
		return false
	}
	return full*(1+1/float64(limit))+backlog < room
}

// worthWaiting reports whether a full node in service would have a request
// answered sooner than the best of those with room. least is the score of the
// latter. Called with the lock held, after survey.
func (b *Balancer) worthWaiting(candidates []Candidate, least float64) bool {
	backlog := -1.0
	for i := range candidates {
		c, v := &candidates[i], &b.views[i]
		if !v.plain || c.Down || c.Tries > 0 || !c.NoRoom() {
			continue
		}
		if backlog < 0 {
			backlog = b.backlog().Seconds()
		}
		limit := c.Limit
		if limit == 0 {
			limit = int(c.Node.inFlight.Load()) // full by another's count
		}
		limit = max(1, limit)
		if worthWaiting(least, v.full(limit), limit, backlog) {
			return true
		}
	}
	return false
}

// full is the expected time to first byte at the node while it has as many
// requests as its limit lets it have. A limit may be above the knee: who gets
// in there is then stretched by all that are already in.
func (v *view) full(limit int) float64 {
	return v.latency * congestion((float64(limit)+v.others)*v.perKnee)
}

// retryWaits reports whether a request had better wait for a full node than go
// back to one that it was tried at. A node that fails at once always has room.
// To the request that it failed, it is as slow as a failure counts; only who
// would wait longer than that goes back. Of a node that was not tried yet less
// is asked than otherwise: it may still be in its slow start. Called with the
// lock held, after survey.
func (b *Balancer) retryWaits(candidates []Candidate) bool {
	least := math.Inf(1)
	for i := range b.scratch {
		if s := &b.scratch[i]; s.rank == tried {
			least = min(least, s.score)
		}
	}
	least = max(least, failureLatency.Seconds())
	backlog := b.backlog().Seconds()
	for i := range candidates {
		c, v := &candidates[i], &b.views[i]
		if c.Down || c.Tries > 0 || v.drained || v.hung || v.state != closed || !c.NoRoom() {
			continue
		}
		limit := max(1, c.Limit)
		if worthWaiting(least, v.full(limit), limit, backlog) {
			return true
		}
	}
	return false
}
