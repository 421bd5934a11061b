package gpupolicy

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

var descPins = prometheus.NewDesc("caddy_gpu_sticky_total",
	"Picks for requests that were pinned to a node, by what became of the pin: kept, or why it was broken.", []string{"outcome"}, nil)

// pinOutcomes are those that count: PinNone is a pin to a node that is no
// longer there, or a cookie that this gateway has not made.
var pinOutcomes = []balance.Pin{
	balance.PinNone, balance.PinKept, balance.PinOut, balance.PinDrained,
	balance.PinFull, balance.PinOverloaded, balance.PinTried,
}

// pinCounts count for the whole process, as counters never fall.
var pinCounts [balance.Pins]atomic.Uint64

func countPin(p balance.Pin) { pinCounts[p].Add(1) }

func collectPins(ch chan<- prometheus.Metric) {
	for _, p := range pinOutcomes {
		outcome := p.String()
		if p == balance.PinNone {
			outcome = "unknown"
		}
		ch <- prometheus.MustNewConstMetric(descPins, prometheus.CounterValue, float64(pinCounts[p].Load()), outcome)
	}
}
