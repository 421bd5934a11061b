package gpuprobe

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The headers of an ORCA report, and the request header that makes vLLM and
// Triton send one.
const (
	orcaHeader    = "Endpoint-Load-Metrics"
	orcaBinHeader = "Endpoint-Load-Metrics-Bin"
	orcaFormat    = "Endpoint-Load-Metrics-Format"
)

// ErrNoORCA says that a response has no ORCA report.
var ErrNoORCA = errors.New("the response has no header endpoint-load-metrics")

// Bounds of one header.
const (
	maxORCA        = 16 << 10
	maxORCAMetrics = 256
)

// ParseORCA reads the report in the headers of a response that came at the
// given time: Envoy's TEXT (name:value), that of Triton and vLLM (name=value),
// JSON, BIN and the -bin header.
func ParseORCA(h http.Header, at time.Time) (Sample, error) {
	values, err := orcaValues(h)
	if err != nil {
		return Sample{}, err
	}
	c := newCollector()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for i := range orcaMetrics {
			if m := &orcaMetrics[i]; m.Name == name {
				c.add(m, i, place{}, values[name])
			}
		}
	}
	s := c.done()
	s.MeasuredAt = at
	if s.empty() {
		return Sample{}, errors.New("reading ORCA: no known metric in the report")
	}
	return s, nil
}

// orcaMetrics are the protocol's own names, and those that model servers put
// into named_metrics and utilization.
var orcaMetrics = []Metric{
	{Field: FieldUtilization, Name: "utilization.gpu"},
	{Field: FieldUtilization, Name: "utilization.gpu_utilization"},
	{Field: FieldUtilization, Name: "named_metrics.gpu_utilization"},
	{Field: FieldUtilization, Name: "application_utilization"},
	{Field: FieldMemoryRatio, Name: "utilization.gpu_memory"},
	{Field: FieldMemoryRatio, Name: "named_metrics.gpu_memory_utilization"},
	{Field: FieldCPU, Name: "cpu_utilization"},
	{Field: FieldHostMemory, Name: "mem_utilization"},
	{Field: FieldKVCache, Name: "named_metrics.kv_cache_usage_perc"},
	{Field: FieldKVCache, Name: "named_metrics.kv_cache_utilization"},
	{Field: FieldQueue, Name: "named_metrics.num_requests_waiting"},
	{Field: FieldQueue, Name: "named_metrics.queue"},
	{Field: FieldRunning, Name: "named_metrics.num_requests_running"},
	{Field: FieldInFlight, Name: "named_metrics.in_flight"},
}

// orcaValues reads a report as names and numbers; the entries of its maps are
// "named_metrics.x".
func orcaValues(h http.Header) (map[string]float64, error) {
	if bin := h.Get(orcaBinHeader); bin != "" {
		return orcaBinary(bin)
	}
	value := strings.TrimSpace(h.Get(orcaHeader))
	switch {
	case value == "":
		return nil, ErrNoORCA
	case len(value) > maxORCA:
		return nil, fmt.Errorf("reading ORCA: a header of more than %d bytes", maxORCA)
	}
	format, rest, _ := strings.Cut(value, " ")
	switch strings.ToUpper(format) {
	case "TEXT":
		return orcaText(rest)
	case "JSON":
		return orcaJSON(rest)
	case "BIN":
		return orcaBinary(strings.TrimSpace(rest))
	}
	if strings.HasPrefix(value, "{") {
		return orcaJSON(value)
	}
	return orcaText(value)
}

func orcaText(s string) (map[string]float64, error) {
	values := map[string]float64{}
	for pair := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		i := strings.IndexAny(pair, ":=")
		if i < 0 {
			return nil, fmt.Errorf("reading ORCA text: no value in %q", label(pair))
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(pair[i+1:]), 64)
		if err != nil {
			return nil, fmt.Errorf("reading ORCA text: no number in %q", label(pair))
		}
		if err := putORCA(values, strings.TrimSpace(pair[:i]), v); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func orcaJSON(s string) (map[string]float64, error) {
	var report map[string]any
	if err := json.Unmarshal([]byte(s), &report); err != nil {
		return nil, fmt.Errorf("reading ORCA JSON: %w", err)
	}
	values := map[string]float64{}
	for name, v := range report {
		name = snake(name)
		switch v := v.(type) {
		case float64:
			if err := putORCA(values, name, v); err != nil {
				return nil, err
			}
		case map[string]any:
			for key, entry := range v {
				number, ok := entry.(float64)
				if !ok {
					continue
				}
				if err := putORCA(values, name+"."+key, number); err != nil {
					return nil, err
				}
			}
		}
	}
	return values, nil
}

// snake undoes the camel case that protobuf's JSON may have.
func snake(name string) string {
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// orcaFields are the numbers of xds.data.orca.v3.OrcaLoadReport; the maps are
// those of string to double.
var orcaFields = map[protowire.Number]struct {
	name  string
	isMap bool
}{
	1: {"cpu_utilization", false},
	2: {"mem_utilization", false},
	4: {"request_cost", true},
	5: {"utilization", true},
	6: {"rps_fractional", false},
	7: {"eps", false},
	8: {"named_metrics", true},
	9: {"application_utilization", false},
}

var errORCABinary = errors.New("reading ORCA: the binary report is broken")

func orcaBinary(s string) (map[string]float64, error) {
	if len(s) > maxORCA {
		return nil, fmt.Errorf("reading ORCA: a header of more than %d bytes", maxORCA)
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, fmt.Errorf("reading ORCA: %w", err)
	}
	values := map[string]float64{}
	err = protoFields(data, func(number protowire.Number, v float64, bytes []byte) error {
		field, ok := orcaFields[number]
		switch {
		case !ok:
			return nil
		case !field.isMap:
			return putORCA(values, field.name, v)
		}
		var key string
		var value float64
		if err := protoFields(bytes, func(number protowire.Number, v float64, text []byte) error {
			switch number {
			case 1:
				key = string(text)
			case 2:
				value = v
			default: // a newer protocol's
			}
			return nil
		}); err != nil {
			return err
		}
		return putORCA(values, field.name+"."+key, value)
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// protoFields calls f with each field that is a double or a string of bytes.
func protoFields(data []byte, f func(number protowire.Number, double float64, text []byte) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errORCABinary
		}
		data = data[n:]
		size := protowire.ConsumeFieldValue(number, kind, data)
		if size < 0 {
			return errORCABinary
		}
		var err error
		switch kind {
		case protowire.Fixed64Type:
			bits, _ := protowire.ConsumeFixed64(data)
			err = f(number, math.Float64frombits(bits), nil)
		case protowire.BytesType:
			text, _ := protowire.ConsumeBytes(data)
			err = f(number, 0, bytes.Clone(text))
		default:
		}
		if err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}

func putORCA(values map[string]float64, name string, v float64) error {
	if len(values) == maxORCAMetrics {
		return fmt.Errorf("reading ORCA: more than %d metrics", maxORCAMetrics)
	}
	values[name] = v
	return nil
}

// orcaSource asks a page for its report. A proxy that sees responses anyway
// calls ParseORCA and a Holder instead.
type orcaSource struct{ *web }

func openORCA(c Config) (Source, error) {
	w, err := newWeb(c.Address, 0, "/", http.Header{orcaFormat: {"JSON"}})
	if err != nil {
		return nil, err
	}
	return &orcaSource{w}, nil
}

func (s *orcaSource) Read(ctx context.Context) (Sample, error) {
	p, err := s.get(ctx)
	if err != nil {
		return Sample{}, err
	}
	sample, err := ParseORCA(p.header, p.at)
	if err != nil {
		return Sample{}, fmt.Errorf("reading %s: %w", s.url, err)
	}
	return sample, nil
}

func (s *orcaSource) Close() error { return s.close() }
