package gpuprobe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// prometheusSource reads a page of metrics.
type prometheusSource struct {
	*web
	metrics []Metric
	// modelLabel is the label that names the served model, if any.
	modelLabel string
}

// acceptText asks for the format that every exporter has, and tells those that
// measure during the request when nobody will wait any more.
var acceptText = http.Header{
	"Accept":                              {"text/plain;version=0.0.4;q=1,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"},
	"X-Prometheus-Scrape-Timeout-Seconds": {strconv.Itoa(int(readTimeout.Seconds()))},
}

func (s *prometheusSource) Read(ctx context.Context) (Sample, error) {
	p, err := s.get(ctx)
	if err != nil {
		return Sample{}, err
	}
	sample, err := parseMetrics(p.body, s.metrics, s.modelLabel)
	if err != nil {
		return Sample{}, fmt.Errorf("reading %s: %w", s.url, err)
	}
	sample.MeasuredAt = p.measured(sample.MeasuredAt)
	return sample, nil
}

func (s *prometheusSource) Close() error { return s.close() }

// parseMetrics reads Prometheus text or OpenMetrics. Only the lines of mapped
// metrics are parsed: a model server's page is mostly histograms, and one bad
// line among them must not make a node blind. MeasuredAt is zero unless a
// series tells its time.
func parseMetrics(body []byte, metrics []Metric, modelLabel string) (Sample, error) {
	wanted := make(map[string][]int, len(metrics))
	for i := range metrics {
		wanted[metrics[i].Name] = append(wanted[metrics[i].Name], i)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(mappedLines(body, wanted)))
	if err != nil {
		return Sample{}, err
	}
	c := newCollector()
	for i := range metrics {
		m := &metrics[i]
		for _, series := range families[m.Name].GetMetric() {
			if series.Untyped == nil || !matches(series, m.Labels) {
				continue
			}
			if ms := series.GetTimestampMs(); ms > 0 {
				c.measured(time.UnixMilli(ms))
			}
			c.add(m, i, placeOf(series), m.scaled(series.Untyped.GetValue()))
			if name := labelValue(series, modelLabel); modelLabel != "" && c.sample.Model == "" {
				c.sample.Model = label(name)
			}
		}
	}
	sample := c.done()
	if sample.empty() {
		return Sample{}, errors.New("none of the mapped metrics is there: " + metricNames(metrics))
	}
	return sample, nil
}

// mappedLines keeps the sample lines of the wanted metrics, in the classic
// format. Without their TYPE lines all of them parse as untyped numbers.
func mappedLines(body []byte, wanted map[string][]int) []byte {
	var out []byte
	openMetrics := bytes.HasSuffix(bytes.TrimRight(body, "\r\n "), []byte("# EOF"))
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if _, ok := wanted[string(seriesName(line))]; !ok { // without allocating
			continue
		}
		if openMetrics {
			line = []byte(classicLine(string(line)))
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// seriesName is the metric name at the start of a line.
func seriesName(line []byte) []byte {
	if quoted, ok := bytes.CutPrefix(line, []byte(`{"`)); ok { // names in UTF-8
		name, _, _ := bytes.Cut(quoted, []byte(`"`))
		return name
	}
	if i := bytes.IndexAny(line, "{ \t"); i >= 0 {
		return line[:i]
	}
	return line
}

// classicLine rewrites an OpenMetrics line: its time stamps are seconds where
// the classic format has whole milliseconds, and exemplars are unknown there.
// expfmt reads the rest alike.
func classicLine(line string) string {
	end := labelsEnd(line)
	if i := strings.IndexAny(line, " \t"); end == 0 && i > 0 {
		end = i
	}
	values, _, _ := strings.Cut(line[end:], " # ")
	fields := strings.Fields(values)
	if len(fields) < 2 {
		return line[:end] + " " + strings.Join(fields, " ")
	}
	seconds, err := strconv.ParseFloat(fields[1], 64)
	if err != nil || !(seconds > 0 && seconds < 1e11) {
		return line[:end] + " " + fields[0]
	}
	return line[:end] + " " + fields[0] + " " + strconv.FormatInt(int64(seconds*1000), 10)
}

func matches(series *dto.Metric, labels map[string]string) bool {
	for name, value := range labels {
		if labelValue(series, name) != value {
			return false
		}
	}
	return true
}

func labelValue(series *dto.Metric, names ...string) string {
	for _, name := range names {
		for _, l := range series.GetLabel() {
			if l.GetName() == name {
				return l.GetValue()
			}
		}
	}
	return ""
}

// placeOf reads the labels by which exporters tell devices apart: UUID, gpu,
// modelName and GPU_I_ID are dcgm-exporter's, gpu_uuid is Triton's, the rest
// nvidia_gpu_exporter's and common.
func placeOf(series *dto.Metric) place {
	return place{
		uuid:     labelValue(series, "UUID", "uuid", "gpu_uuid"),
		name:     labelValue(series, "modelName", "name"),
		index:    labelValue(series, "gpu", "index", "gpu_id"),
		instance: labelValue(series, "GPU_I_ID", "gpu_instance_id"),
		xid:      labelValue(series, "xid"),
	}
}

func metricNames(metrics []Metric) string {
	var names []string
	for i := range metrics {
		if !slices.Contains(names, metrics[i].Name) {
			names = append(names, metrics[i].Name)
		}
		if len(names) == 4 {
			return strings.Join(names, ", ") + ", …"
		}
	}
	return strings.Join(names, ", ")
}
