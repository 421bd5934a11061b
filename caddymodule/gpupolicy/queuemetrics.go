package gpupolicy

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

var (
	descQueueLength = prometheus.NewDesc("caddy_gpu_queue_length", "Requests that wait for a node to have room.", nil, nil)
	descShed        = prometheus.NewDesc("caddy_gpu_shed_total", "Requests that were not let wait, or not any longer, and answered 503.", []string{"reason"}, nil)

	queueWait = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:    "caddy_gpu_queue_wait_seconds",
		Help:    "How long requests waited for a node to have room.",
		Buckets: []float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
	})
)

// shedBefore counts for queues that are no longer used: counters never fall.
var shedBefore shedCounts

type shedCounts struct {
	mu sync.Mutex
	of map[balance.Shed]uint64
}

func (c *shedCounts) add(q *sharedQueue) {
	if q.pinned {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[balance.Shed]uint64)
	}
	for _, why := range balance.Sheds() {
		c.of[why] += q.Shed(why)
	}
}

func (c *shedCounts) get(why balance.Shed) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[why]
}

// collectQueues sums up the queues: they have no names that would make bounded
// labels.
func collectQueues(ch chan<- prometheus.Metric) {
	length, shed := 0, make(map[balance.Shed]uint64)
	for _, why := range balance.Sheds() {
		shed[why] = shedBefore.get(why)
	}
	queues.each(func(q *sharedQueue) {
		length += q.Len()
		if q.pinned {
			return
		}
		for _, why := range balance.Sheds() {
			shed[why] += q.Shed(why)
		}
	})
	ch <- prometheus.MustNewConstMetric(descQueueLength, prometheus.GaugeValue, float64(length))
	for why, n := range shed {
		ch <- prometheus.MustNewConstMetric(descShed, prometheus.CounterValue, float64(n), why.String())
	}
	queueWait.Collect(ch)
}
