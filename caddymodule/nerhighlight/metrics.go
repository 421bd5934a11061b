package nerhighlight

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type counters struct {
	responses         *prometheus.CounterVec
	entities, dropped prometheus.Counter
	cacheHits         prometheus.Counter
	model             prometheus.Histogram
}

// metrics outlive configurations, of which each has a registry of its own.
var metrics = counters{
	responses: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "ner_highlight", Name: "responses_total",
		Help: "Answers by form (page, fragment, annotated) and by what became of them: ok, or why they, or the rest of a page, passed as they came.",
	}, []string{"form", "result"}),
	entities: prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "ner_highlight", Name: "entities_total",
		Help: "Entities that were marked.",
	}),
	dropped: prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "ner_highlight", Name: "dropped_total",
		Help: "Entities that were not marked because their place is not certain or cannot be marked.",
	}),
	cacheHits: prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "ner_highlight", Name: "cache_hits_total",
		Help: "Paragraphs of annotated pages that the model was not asked about again.",
	}),
	model: prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "ner_highlight", Name: "model_seconds",
		Help:    "Time that an annotated page spent in the model.",
		Buckets: prometheus.ExponentialBuckets(1e-3, 2.5, 11),
	}),
}

func registered(registry *prometheus.Registry) (*counters, error) {
	for _, c := range []prometheus.Collector{metrics.responses, metrics.entities, metrics.dropped, metrics.cacheHits, metrics.model} {
		err := registry.Register(c)
		if _, twice := errors.AsType[prometheus.AlreadyRegisteredError](err); err != nil && !twice {
			return nil, err
		}
	}
	return &metrics, nil
}
