package gpuprobe

import (
	"context"
	"fmt"
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
