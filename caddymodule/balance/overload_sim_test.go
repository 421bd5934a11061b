package balance

import (
	"testing"
	"time"
)

// lineQueue is this package's line in the simulator.
type lineQueue struct {
	line
	requests map[*ticket]*flowRequest
}

func newLineQueue(capacity int, patience time.Duration) *lineQueue {
	q := &lineQueue{requests: make(map[*ticket]*flowRequest)}
	q.capacity, q.patience = capacity, patience
	return q
}

func (q *lineQueue) push(now time.Duration, r *flowRequest) {
	t := &ticket{urgency: r.urgency, deadline: now + q.patience}
	evicted, shed := q.line.push(now, t, nil)
	if shed != notShed {
		r.reject(now)
		return
	}
	q.requests[t] = r
	if evicted != nil {
		q.reject(now, evicted)
	}
}

func (q *lineQueue) reject(now time.Duration, t *ticket) {
	q.requests[t].reject(now)
	delete(q.requests, t)
}

func (q *lineQueue) pop(now time.Duration) *flowRequest {
	for t := q.late(now); t != nil; t = q.late(now) {
		q.remove(t)
		q.reject(now, t)
	}
	t := q.first()
	if t == nil {
		return nil
	}
	q.admit(now, t)
	r := q.requests[t]
	delete(q.requests, t)
	return r
}

// plainQueue lets requests wait up to a fixed time, and serves the newest first
// when more than lifo wait.
type plainQueue struct {
	capacity int
	patience time.Duration
	lifo     int
	waiting  []*flowRequest
}

func (q *plainQueue) push(now time.Duration, r *flowRequest) {
	if len(q.waiting) >= q.capacity {
		r.reject(now)
		return
	}
	q.waiting = append(q.waiting, r)
}

func (q *plainQueue) answered(_, _ time.Duration) {}

func (q *plainQueue) pop(now time.Duration) *flowRequest {
	for len(q.waiting) > 0 && now-q.waiting[0].arrived > q.patience {
		q.waiting[0].reject(now)
		q.waiting = q.waiting[1:]
	}
	n := len(q.waiting)
	if n == 0 {
		return nil
	}
	r := q.waiting[0]
	if n > q.lifo {
		r = q.waiting[n-1]
		q.waiting = q.waiting[:n-1]
	} else {
		q.waiting = q.waiting[1:]
	}
	return r
}

const never = 1 << 30

// overload is issue's row: three nodes with two slots of 20 ms each can answer
// 300 requests a second; they get 200, then for 10 s load times 300, then 200
// again.
func overload(load float64, seed uint64, limit func(gateway, node int) flowLimit, queue func() flowQueue) flowResult {
	n := flowNature{kind: fifo, slots: 2, service: 20 * ms, sigma: simSigma}
	return flowRun(flowScenario{
		nodes: []flowNature{n, n, n}, length: 50 * sec, seed: seed,
		newLimit: limit, newQueue: func(int) flowQueue { return queue() },
		rate: func(now time.Duration) float64 {
			if now >= 20*sec && now < 30*sec {
				return 300 * load
			}
			return 200
		},
	})
}

const slo = 500 * ms

// outcome sums up what became of the requests of the overloaded 10 s, and how
// many of the seconds after it were bad: with a request that was late or lost.
type outcome struct {
	good, late, shed, badSeconds float64 // per second, and number
	told                         time.Duration
}

func (r flowResult) outcome() (o outcome) {
	bad := make(map[int]bool)
	for _, q := range r.requests {
		took := q.ended - q.arrived
		good := q.ok && took <= slo
		switch {
		case q.arrived < 20*sec:
		case q.arrived >= 30*sec:
			if !good && q.arrived >= 31*sec {
				bad[int(q.arrived/sec)] = true
			}
		case good:
			o.good += 0.1
		case q.ok:
			o.late += 0.1
		default:
			o.shed += 0.1
			o.told = max(o.told, took)
		}
	}
	o.badSeconds = float64(len(bad))
	return o
}

func TestOverloadTable(t *testing.T) {
	learn := func(int, int) flowLimit { return newLearned(0) }
	hand := func(int, int) flowLimit { return fixedLimit(2) }
	none := func(int, int) flowLimit { return fixedLimit(never) }
	for _, load := range []float64{1.1, 1.2, 1.5, 2, 4} {
		for _, c := range []struct {
			name  string
			limit func(int, int) flowLimit
			queue func() flowQueue
		}{
			{"auto, line", learn, func() flowQueue { return newLineQueue(1000, 10*sec) }},
			{"2, line", hand, func() flowQueue { return newLineQueue(1000, 10*sec) }},
			{"2, FIFO 10 s", hand, func() flowQueue { return &plainQueue{1000, 10 * sec, never, nil} }},
			{"2, FIFO 0.4 s", hand, func() flowQueue { return &plainQueue{1000, 400 * ms, never, nil} }},
			{"2, LIFO 10 s", hand, func() flowQueue { return &plainQueue{1000, 10 * sec, 0, nil} }},
			{"2, adaptive LIFO 10 s", hand, func() flowQueue { return &plainQueue{1000, 10 * sec, 30, nil} }},
			{"none", none, func() flowQueue { return &plainQueue{never, time.Hour, never, nil} }},
		} {
			const seeds = 5
			var sum outcome
			least := 1e9
			for seed := range uint64(seeds) {
				o := overload(load, seed, c.limit, c.queue).outcome()
				sum.good += o.good / seeds
				sum.late += o.late / seeds
				sum.shed += o.shed / seeds
				sum.badSeconds += o.badSeconds / seeds
				sum.told = max(sum.told, o.told)
				least = min(least, o.good)
			}
			t.Logf("load %.1f  %-22s good %5.1f/s (least %5.1f)  late %5.1f/s  shed %5.1f/s, told within %6v  bad seconds after %.1f",
				load, c.name, sum.good, least, sum.late, sum.shed, sum.told.Round(ms), sum.badSeconds)
		}
	}
}

func TestLossUnderHeavyLoad(t *testing.T) {
	for _, load := range []float64{.9, .95, .98} {
		lost, late, n := 0, 0, 0
		for seed := range uint64(4) {
			nd := flowNature{kind: fifo, slots: 2, service: 20 * ms, sigma: .5}
			r := flowRun(flowScenario{
				nodes: []flowNature{nd, nd, nd}, length: 100 * sec, gateways: 1, seed: seed, newLimit: func(int, int) flowLimit { return newLearned(0) }, newQueue: func(int) flowQueue { return newLineQueue(1000, 10*sec) },
				rate: func(now time.Duration) float64 { return 300 * load },
			})
			for _, q := range r.requests {
				n++
				if !q.ok {
					lost++
				} else if q.ended-q.arrived > 500*ms {
					late++
				}
			}
		}
		t.Logf("   load %.2f lost %.2f%% late %.2f%%", load, 100*float64(lost)/float64(n), 100*float64(late)/float64(n))
	}
}
