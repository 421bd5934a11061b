package gpuprobe

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// jsonSource reads a page of JSON.
type jsonSource struct {
	*web
	metrics []Metric // nil for a Report
}

func (s *jsonSource) Read(ctx context.Context) (Sample, error) {
	p, err := s.get(ctx)
	if err != nil {
		return Sample{}, err
	}
	sample, err := parseJSON(p.body, s.metrics)
	if err != nil {
		return Sample{}, fmt.Errorf("reading %s: %w", s.url, err)
	}
	sample.MeasuredAt = p.measured(sample.MeasuredAt)
	return sample, nil
}

func (s *jsonSource) Close() error { return s.close() }

// Holder is a source that is told instead of asking: a node posts its reports
// to it, or a proxy hands it what it saw in a response. The zero value is
// ready. All methods may be called at the same time.
type Holder struct {
	last atomic.Pointer[held]
}

type held struct {
	sample Sample
	// theirs is the time in the report, by the sender's clock.
	theirs time.Time
}

// Put replaces the sample.
func (h *Holder) Put(s Sample) { h.last.Store(&held{sample: s}) }

// Post takes a report that a node sent, received at the given time. It was
// measured just before, whatever the node's clock says, unless the node keeps
// sending one and the same: then it is as old as its first arrival.
func (h *Holder) Post(body []byte, at time.Time) error {
	if len(body) > maxPage {
		return fmt.Errorf("a report of more than %d MiB", maxPage>>20)
	}
	s, err := parseJSON(body, nil)
	if err != nil {
		return err
	}
	next := &held{s, s.MeasuredAt}
	next.sample.MeasuredAt = at
	for {
		last := h.last.Load()
		if last != nil && !next.theirs.IsZero() && next.theirs.Equal(last.theirs) {
			next.sample.MeasuredAt = last.sample.MeasuredAt
		}
		if h.last.CompareAndSwap(last, next) {
			return nil
		}
	}
}

// Read returns the latest sample, or ErrNoReport.
func (h *Holder) Read(context.Context) (Sample, error) {
	if last := h.last.Load(); last != nil {
		return last.sample, nil
	}
	return Sample{}, ErrNoReport
}

// Close does nothing: a Holder holds no resources.
func (h *Holder) Close() error { return nil }
