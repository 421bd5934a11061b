package balance

import "time"

const (
	// recordEvery is how often a pick of each reason is recorded at most: a
	// record costs some ten times what a pick does, and nobody reads a thousand
	// a second. The rare reasons have a turn of their own, so that they are
	// seen among many best ones.
	recordEvery = 100 * time.Millisecond

	// recordedPicks and recordedCandidates bound what records take: some 100 kB
	// in a pool of 64 nodes, 6 kB in one of four.
	recordedPicks      = 16
	recordedCandidates = 64
)

// PickRecord is a pick as it was made, with what it weighed.
type PickRecord struct {
	At time.Duration
	// Number counts the picks of the balancer from 1. Not all are recorded.
	Number uint64
	// Chosen is the index of the node among Candidates, -1 if none was chosen.
	Chosen int
	Reason Reason
	// Ties is how many nodes had a score so near the lowest that the lot
	// decided among them, by weight; 1 if none was near it, 0 if scores did not
	// decide.
	Ties       int
	Candidates []CandidateRecord
	// Omitted is how many further candidates there were.
	Omitted int
}

// CandidateRecord is a node as a pick saw it.
type CandidateRecord struct {
	Addr     string
	Tier     int
	Standing Standing
	Score    float64
	Factors  Factors
}

// Standing is how a candidate stood in a pick, before scores are compared.
type Standing uint8

// The standings. Eligible nodes compete by score.
const (
	StandsEligible Standing = iota
	StandsSparing           // in slow start, and this request was not among its share
	StandsTried             // the request has already been there
	StandsAvoided           // for its load or by its own word
	StandsSilent            // it has not answered for long
	StandsEjected
	StandsDown
	StandsFull
	StandsDrained
	standings
)

var standingNames = [standings]string{"eligible", "sparing", "tried", "avoided", "silent", "ejected", "down", "full", "drained"}

// String returns the name used in JSON.
func (s Standing) String() string { return standingNames[s] }

// recorder keeps the last picks. Guarded by the balancer's lock.
type recorder struct {
	due     [reasons + 1]time.Duration // by reason; the last is for picks that chose none
	number  uint64
	drafted bool
	next    int // where the next record goes
	ring    [recordedPicks]PickRecord
}

// draft records a pick if it is time to. What it weighed is gone once the node
// is reserved, which may yet fail: keep says that it did not.
func (b *Balancer) draft(now time.Duration, candidates []Candidate, chosen int, reason Reason) {
	r := &b.record
	r.drafted = false
	if now < r.due[kind(chosen, reason)] {
		return
	}
	r.drafted = true
	p := &r.ring[r.next]
	*p = PickRecord{At: now, Chosen: -1, Reason: reason, Candidates: p.Candidates[:0]}
	if chosen >= 0 && reason != Probe {
		p.Ties = len(b.ties)
	}
	for i := range candidates {
		if len(p.Candidates) == recordedCandidates {
			if chosen < i {
				break
			}
			// The chosen one is not to be missing.
			p.Candidates = p.Candidates[:recordedCandidates-1]
			i = chosen
		}
		c, v := &candidates[i], &b.views[i]
		if i == chosen {
			p.Chosen = len(p.Candidates)
		}
		p.Candidates = append(p.Candidates, CandidateRecord{
			Addr: c.Node.addr, Tier: c.Tier, Standing: b.standing(i, c), Score: b.scratch[i].score, Factors: v.factors(c),
		})
		if i == chosen && len(p.Candidates) == recordedCandidates {
			break
		}
	}
	p.Omitted = len(candidates) - len(p.Candidates)
}

func kind(chosen int, reason Reason) int {
	if chosen < 0 {
		return int(reasons)
	}
	return int(reason)
}

// keep puts the draft, if there is one, among the records.
func (r *recorder) keep() {
	r.number++
	if !r.drafted {
		return
	}
	p := &r.ring[r.next]
	p.Number = r.number
	r.due[kind(p.Chosen, p.Reason)] = p.At + recordEvery
	r.next = (r.next + 1) % recordedPicks
}

func (b *Balancer) standing(i int, c *Candidate) Standing {
	s, v := &b.scratch[i], &b.views[i]
	switch {
	case v.drained:
		return StandsDrained
	case c.NoRoom():
		return StandsFull
	case c.Down:
		return StandsDown
	case v.state != closed:
		return StandsEjected
	case v.hung:
		return StandsSilent
	case s.rank == avoided:
		return StandsAvoided
	case c.Tries > 0:
		return StandsTried
	case s.rests:
		return StandsSparing
	default:
		return StandsEligible
	}
}

// LastPicks returns the picks recorded last, the newest first.
func (b *Balancer) LastPicks() []PickRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []PickRecord
	for i := 1; i <= recordedPicks; i++ {
		p := b.record.ring[(b.record.next-i+recordedPicks)%recordedPicks]
		if p.Number == 0 {
			break
		}
		p.Candidates = append([]CandidateRecord(nil), p.Candidates...)
		all = append(all, p)
	}
	return all
}
