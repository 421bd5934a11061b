package inferhandler

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-infer/caddy-infer/inference"
)

// metrics are package-level because Caddy makes a fresh registry for every
// configuration: collectors that outlive it keep counting over reloads.
//
// Labels stay bounded: a model's is its name in the configuration, a code is
// one that this handler answers, a phase one of four.
var metrics = struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	batchSize   *prometheus.HistogramVec
	cacheHits   *prometheus.CounterVec
	cacheMisses *prometheus.CounterVec
}{
	requests: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "inference", Name: "requests_total",
		Help: "Inference requests by model and HTTP status code; health checks are not counted.",
	}, []string{"model", "code"}),
	duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "inference", Name: "duration_seconds",
		Help: "Time that answered requests spent in each phase: queue, tokenize, run or decode.",
		// From tokenizing one sentence (tens of microseconds) to a long text
		// on a big model (seconds).
		Buckets: prometheus.ExponentialBuckets(20e-6, 2.5, 15),
	}, []string{"model", "phase"}),
	batchSize: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "inference", Name: "batch_size",
		Help:    "Windows of text that shared a forward pass with an answered request.",
		Buckets: prometheus.ExponentialBuckets(1, 2, 9),
	}, []string{"model"}),
	cacheHits: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "inference", Name: "cache_hits_total",
		Help: "Texts answered from the model's cache.",
	}, []string{"model"}),
	cacheMisses: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "inference", Name: "cache_misses_total",
		Help: "Texts that the model's cache did not have; nothing is counted without a cache.",
	}, []string{"model"}),
}

// registerMetrics adds the collectors to a configuration's registry. All
// handlers of a configuration share them.
func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		metrics.requests, metrics.duration, metrics.batchSize, metrics.cacheHits, metrics.cacheMisses,
	} {
		err := registry.Register(c)
		if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
			return err
		}
	}
	return nil
}

// modelMetrics are the collectors of one model with the labels resolved once.
type modelMetrics struct {
	requests                     *prometheus.CounterVec
	ok                           prometheus.Counter
	queue, tokenize, run, decode prometheus.Observer
	batchSize                    prometheus.Observer
	cacheHits, cacheMisses       prometheus.Counter
}

func newModelMetrics(name string) modelMetrics {
	phase := func(p string) prometheus.Observer { return metrics.duration.WithLabelValues(name, p) }
	requests := metrics.requests.MustCurryWith(prometheus.Labels{"model": name})
	return modelMetrics{
		requests:  requests,
		ok:        requests.WithLabelValues("200"),
		queue:     phase("queue"),
		tokenize:  phase("tokenize"),
		run:       phase("run"),
		decode:    phase("decode"),
		batchSize: metrics.batchSize.WithLabelValues(name),

		cacheHits:   metrics.cacheHits.WithLabelValues(name),
		cacheMisses: metrics.cacheMisses.WithLabelValues(name),
	}
}

func (m *modelMetrics) answered(s inference.Stats) {
	m.ok.Inc()
	m.cacheHits.Add(float64(s.Cached))
	m.cacheMisses.Add(float64(s.Missed))
	if s.Cached > 0 && s.Missed == 0 {
		return // the network had no part in it
	}
	m.queue.Observe(s.Queue.Seconds())
	m.tokenize.Observe(s.Tokenize.Seconds())
	m.run.Observe(s.Run.Seconds())
	m.decode.Observe(s.Decode.Seconds())
	if s.BatchSize > 0 {
		m.batchSize.Observe(float64(s.BatchSize))
	}
}

func (m *modelMetrics) failed(code int) {
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
}

// serverTiming is the latency split for the browser's developer tools and for
// pages: https://www.w3.org/TR/server-timing/, in milliseconds.
func serverTiming(s inference.Stats, total time.Duration) string {
	b := make([]byte, 0, 96)
	for _, p := range [...]struct {
		name string
		d    time.Duration
	}{
		{"queue;dur=", s.Queue},
		{", tokenize;dur=", s.Tokenize},
		{", run;dur=", s.Run},
		{", decode;dur=", s.Decode},
		{", total;dur=", total},
	} {
		b = append(b, p.name...)
		b = strconv.AppendFloat(b, float64(p.d)/float64(time.Millisecond), 'f', 3, 64)
	}
	return string(b)
}
