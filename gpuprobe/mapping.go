package gpuprobe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Field names a value of a Sample in mappings.
type Field string

// The fields that a mapping can fill. Those up to ECC are of a device.
const (
	FieldUtilization    Field = "utilization"     // 0 to 1
	FieldMemoryUsed     Field = "memory_used"     // bytes
	FieldMemoryFree     Field = "memory_free"     // bytes; with used, gives a missing total
	FieldMemoryReserved Field = "memory_reserved" // bytes; added to that total
	FieldMemoryTotal    Field = "memory_total"    // bytes
	FieldTemperature    Field = "temperature"     // °C
	FieldPower          Field = "power"           // W
	FieldThrottle       Field = "throttle"        // NVML's bits
	FieldXID            Field = "xid"             // number of the latest error, 0 for none
	FieldXIDTime        Field = "xid_time"        // unix seconds; the number is in the label xid
	FieldECC            Field = "ecc_uncorrected" // count
	FieldInfo           Field = "info"            // only the labels matter

	FieldMemoryRatio Field = "memory_utilization" // GPU memory, 0 to 1
	FieldCPU         Field = "cpu"                // 0 to 1
	FieldHostMemory  Field = "host_memory"        // 0 to 1
	FieldQueue       Field = "queue"              // requests
	FieldRunning     Field = "running"            // requests
	FieldInFlight    Field = "in_flight"          // requests
	FieldKVCache     Field = "kv_cache"           // 0 to 1
	FieldHealthy     Field = "healthy"            // 0 is not
	FieldAPIHealthy  Field = "api_healthy"        // 0 is not
	FieldWebHealthy  Field = "webui_healthy"      // 0 is not
	FieldMeasuredAt  Field = "measured_at"        // unix seconds
	FieldModel       Field = "model"              // json only
	FieldModelDigest Field = "model_digest"       // json only
)

var deviceFields = []Field{
	FieldUtilization, FieldMemoryUsed, FieldMemoryFree, FieldMemoryReserved, FieldMemoryTotal,
	FieldTemperature, FieldPower, FieldThrottle, FieldXID, FieldXIDTime, FieldECC, FieldInfo,
}

var nodeFields = []Field{
	FieldMemoryRatio, FieldCPU, FieldHostMemory, FieldQueue, FieldRunning, FieldInFlight,
	FieldKVCache, FieldHealthy, FieldAPIHealthy, FieldWebHealthy, FieldMeasuredAt, FieldModel, FieldModelDigest,
}

// Metric says where a field's value is found. Of several metrics of one field
// the first that is there counts.
type Metric struct {
	Field Field
	// Name is the metric's, or the path of a JSON key: "gpus.*.load", where *
	// stands for each device of a list.
	Name string
	// Labels must all have these values; an empty one also matches a series
	// without the label.
	Labels map[string]string
	// Scale multiplies the value; 0 means 1.
	Scale float64
	// Bit is for metrics that are 1 while one throttle reason holds.
	Bit ThrottleReasons
}

func (m *Metric) scaled(v float64) float64 {
	if m.Scale != 0 {
		v *= m.Scale
	}
	return v
}

// parseMapping reads a configured mapping, in the order of the fields' names
// so that equal ones read equally.
func parseMapping(mapping map[string]string) ([]Metric, error) {
	if len(mapping) == 0 {
		return nil, fmt.Errorf("it needs a mapping: give a field with its metric or key, as in \"queue my_waiting_requests\"")
	}
	metrics := make([]Metric, 0, len(mapping))
	for field, spec := range mapping {
		m, err := parseMetric(Field(field), spec)
		if err != nil {
			return nil, err
		}
		metrics = append(metrics, m)
	}
	slices.SortFunc(metrics, func(a, b Metric) int { return strings.Compare(string(a.Field), string(b.Field)) })
	return metrics, nil
}

// parseMetric reads `name`, `name{label="value"}` and either with `* factor`.
func parseMetric(field Field, spec string) (Metric, error) {
	m := Metric{Field: field}
	if !slices.Contains(deviceFields, field) && !slices.Contains(nodeFields, field) {
		return m, fmt.Errorf("unknown field %q: use one of %s", field, fieldNames())
	}
	rest := strings.TrimSpace(spec)
	end := labelsEnd(rest)
	head, tail := rest[:end], strings.TrimSpace(rest[end:])
	if end == 0 && strings.Contains(rest, "{") {
		return m, fmt.Errorf("field %s: labels of %q do not end", field, spec)
	}
	if end == 0 { // no labels: the name ends at white space
		head, tail, _ = strings.Cut(rest, " ")
		tail = strings.TrimSpace(tail)
	}
	if tail != "" {
		factor, ok := strings.CutPrefix(tail, "*")
		scale, err := strconv.ParseFloat(strings.TrimSpace(factor), 64)
		if !ok || err != nil || !(scale > 0 && scale < 1e15) {
			return m, fmt.Errorf("field %s: %q is no factor: write \"name * 0.01\"", field, tail)
		}
		m.Scale = scale
	}
	name, labels, ok := strings.Cut(head, "{")
	m.Name = strings.TrimSpace(name)
	if m.Name == "" {
		return m, fmt.Errorf("field %s: no name in %q", field, spec)
	}
	if !ok {
		return m, nil
	}
	m.Labels = map[string]string{}
	for labels = strings.TrimSpace(strings.TrimSuffix(labels, "}")); labels != ""; {
		key, value, ok := strings.Cut(labels, "=")
		quoted, err := strconv.QuotedPrefix(strings.TrimSpace(value))
		if !ok || err != nil {
			return m, fmt.Errorf("field %s: labels of %q: want name=\"value\"", field, spec)
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return m, fmt.Errorf("field %s: labels of %q: %w", field, spec, err)
		}
		m.Labels[strings.TrimSpace(key)] = text
		labels = strings.TrimLeft(strings.TrimSpace(value)[len(quoted):], ", ")
	}
	return m, nil
}

func fieldNames() string {
	fields := slices.Concat(deviceFields, nodeFields)
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// labelsEnd is the index after the closing brace of a series' labels, 0
// without labels or without their end. Braces in quotes are text.
func labelsEnd(s string) int {
	start := strings.IndexByte(s, '{')
	if start < 0 || strings.ContainsAny(strings.TrimSpace(s[:start]), " \t") {
		return 0 // those of an exemplar come after the value
	}
	quoted := false
	for i := start; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return i + 1
		}
	}
	return 0
}
