package gpuprobe

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Report is a Sample in the words of the node agent's JSON. The first five
// keys are those that health scripts around such models print; what is not
// known is left out.
type Report struct {
	Timestamp time.Time `json:"timestamp"`
	// GPUUsagePercent is the used share of GPU memory, as in those scripts.
	GPUUsagePercent Optional[float64] `json:"gpu_usage_percent,omitzero"`
	APIHealthy      Optional[bool]    `json:"api_healthy,omitzero"`
	WebUIHealthy    Optional[bool]    `json:"webui_healthy,omitzero"`
	OverallHealthy  Optional[bool]    `json:"overall_healthy,omitzero"`

	GPUUtilizationPercent Optional[float64] `json:"gpu_utilization_percent,omitzero"`
	CPUPercent            Optional[float64] `json:"cpu_percent,omitzero"`
	MemoryPercent         Optional[float64] `json:"memory_percent,omitzero"`
	InFlight              Optional[float64] `json:"in_flight,omitzero"`
	Queue                 Optional[float64] `json:"queue,omitzero"`
	Running               Optional[float64] `json:"running,omitzero"`
	KVCachePercent        Optional[float64] `json:"kv_cache_percent,omitzero"`
	Model                 string            `json:"model,omitempty"`
	ModelDigest           string            `json:"model_digest,omitempty"`
	Devices               []DeviceReport    `json:"devices"`
	// Agent is not read back: an agent's orders come from the agent.
	Agent Agent `json:"agent,omitzero"`
}

// DeviceReport is a Device in that JSON.
type DeviceReport struct {
	UUID               string                    `json:"uuid,omitempty"`
	Name               string                    `json:"name,omitempty"`
	Index              Optional[int]             `json:"index,omitzero"`
	Instance           string                    `json:"mig_instance,omitempty"`
	UtilizationPercent Optional[float64]         `json:"utilization_percent,omitzero"`
	MemoryUsedBytes    Optional[uint64]          `json:"memory_used_bytes,omitzero"`
	MemoryTotalBytes   Optional[uint64]          `json:"memory_total_bytes,omitzero"`
	TemperatureC       Optional[float64]         `json:"temperature_c,omitzero"`
	PowerW             Optional[float64]         `json:"power_w,omitzero"`
	ThrottleReasons    Optional[ThrottleReasons] `json:"throttle_reasons,omitzero"`
	XID                Optional[uint64]          `json:"xid,omitzero"`
	XIDAt              time.Time                 `json:"xid_at,omitzero"`
	ECCUncorrected     Optional[uint64]          `json:"ecc_uncorrected,omitzero"`
}

// NewReport puts a sample into the words of the JSON.
func NewReport(s *Sample) Report {
	r := Report{
		Timestamp:       s.MeasuredAt,
		GPUUsagePercent: percent(s.GPUMemoryUtilization()),
		APIHealthy:      s.APIHealthy, WebUIHealthy: s.WebUIHealthy, OverallHealthy: s.Healthy,
		GPUUtilizationPercent: percent(s.GPUUtilization()),
		CPUPercent:            percent(s.CPUUtilization), MemoryPercent: percent(s.HostMemoryUtilization),
		InFlight: s.InFlight, Queue: s.Queue, Running: s.Running, KVCachePercent: percent(s.KVCache),
		Model: s.Model, ModelDigest: s.ModelDigest, Agent: s.Agent,
		Devices: make([]DeviceReport, 0, len(s.Devices)),
	}
	for _, d := range s.Devices {
		r.Devices = append(r.Devices, DeviceReport{
			UUID: d.UUID, Name: d.Name, Index: d.Index, Instance: d.Instance,
			UtilizationPercent: percent(d.Utilization),
			MemoryUsedBytes:    d.MemoryUsedBytes, MemoryTotalBytes: d.MemoryTotalBytes,
			TemperatureC: d.TemperatureC, PowerW: d.PowerW, ThrottleReasons: d.Throttle,
			XID: d.XID, XIDAt: d.XIDAt, ECCUncorrected: d.ECCUncorrected,
		})
	}
	return r
}

// percent has two decimals: 0.1+0.2 is nothing to show people.
func percent(o Optional[float64]) Optional[float64] {
	v, ok := o.Get()
	if !ok {
		return o
	}
	return Some(math.Round(v*10_000) / 100)
}

// reportMetrics read a Report back: by key, so that one odd value, such as
// "N/A" in a script's output, costs only itself.
var reportMetrics = []Metric{
	{Field: FieldMeasuredAt, Name: "timestamp"},
	{Field: FieldMemoryRatio, Name: "gpu_usage_percent", Scale: 0.01},
	{Field: FieldAPIHealthy, Name: "api_healthy"},
	{Field: FieldWebHealthy, Name: "webui_healthy"},
	{Field: FieldHealthy, Name: "overall_healthy"},
	{Field: FieldUtilization, Name: "gpu_utilization_percent", Scale: 0.01},
	{Field: FieldCPU, Name: "cpu_percent", Scale: 0.01},
	{Field: FieldHostMemory, Name: "memory_percent", Scale: 0.01},
	{Field: FieldInFlight, Name: "in_flight"},
	{Field: FieldQueue, Name: "queue"},
	{Field: FieldRunning, Name: "running"},
	{Field: FieldKVCache, Name: "kv_cache_percent", Scale: 0.01},
	{Field: FieldModel, Name: "model"},
	{Field: FieldModelDigest, Name: "model_digest"},
	{Field: FieldUtilization, Name: "devices.*.utilization_percent", Scale: 0.01},
	{Field: FieldMemoryUsed, Name: "devices.*.memory_used_bytes"},
	{Field: FieldMemoryTotal, Name: "devices.*.memory_total_bytes"},
	{Field: FieldTemperature, Name: "devices.*.temperature_c"},
	{Field: FieldPower, Name: "devices.*.power_w"},
	{Field: FieldThrottle, Name: "devices.*.throttle_reasons"},
	{Field: FieldXID, Name: "devices.*.xid"},
	{Field: FieldXIDTime, Name: "devices.*.xid_at"},
	{Field: FieldECC, Name: "devices.*.ecc_uncorrected"},
}

// parseJSON reads mapped keys, those of a Report without a mapping.
// MeasuredAt is zero where the JSON tells no time.
func parseJSON(data []byte, metrics []Metric) (Sample, error) {
	if metrics == nil {
		metrics = reportMetrics
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return Sample{}, fmt.Errorf("reading JSON: %w", err)
	}
	c := newCollector()
	for i := range metrics {
		m := &metrics[i]
		walk(root, strings.Split(m.Name, "."), place{}, func(p place, v any) { c.addJSON(m, i, p, v) })
	}
	s := c.done()
	if s.empty() {
		return Sample{}, errors.New("none of the known keys is there: " + metricNames(metrics))
	}
	return s, nil
}

// walk calls found with each value at the path.
func walk(v any, path []string, p place, found func(place, any)) {
	if len(path) == 0 {
		found(p, v)
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if child, ok := v[path[0]]; ok {
			walk(child, path[1:], p, found)
		}
	case []any:
		if path[0] == "*" {
			for i, child := range v[:min(len(v), maxDevices)] {
				walk(child, path[1:], placeInList(child, i), found)
			}
		} else if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(v) {
			walk(v[i], path[1:], placeInList(v[i], i), found)
		}
	}
}

// placeInList tells which device an element of a list is.
func placeInList(v any, position int) place {
	p := place{index: strconv.Itoa(position)}
	if object, ok := v.(map[string]any); ok {
		p.uuid, _ = object["uuid"].(string)
		p.name, _ = object["name"].(string)
		p.instance, _ = object["mig_instance"].(string)
		if n, ok := object["index"].(float64); ok && n >= 0 && n < maxDevices {
			p.index = strconv.Itoa(int(n))
		}
		if n, ok := object["xid"].(float64); ok && n >= 0 && n < 1e6 {
			p.xid = strconv.Itoa(int(n))
		}
	}
	return p
}

func (c *collector) addJSON(m *Metric, position int, p place, v any) {
	switch v := v.(type) {
	case float64:
		c.add(m, position, p, m.scaled(v))
	case bool:
		c.add(m, position, p, map[bool]float64{true: 1}[v])
	case []any:
		if m.Field == FieldThrottle {
			var r ThrottleReasons
			if data, err := json.Marshal(v); err == nil && json.Unmarshal(data, &r) == nil {
				c.add(m, position, p, float64(r))
			}
		}
	case string:
		switch m.Field {
		case FieldModel:
			c.sample.Model = label(v)
		case FieldModelDigest:
			c.sample.ModelDigest = label(v)
		case FieldMeasuredAt, FieldXIDTime:
			if at, ok := parseTime(v); ok {
				c.add(m, position, p, float64(at.UnixNano())/1e9)
			}
		default:
			number, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), "%"), 64)
			if err == nil {
				c.add(m, position, p, m.scaled(number))
			}
		}
	}
}

// parseTime reads the forms in which scripts print times. Those without a zone
// are taken as local: the node and the gateway of such set-ups share one.
func parseTime(s string) (time.Time, bool) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		return unixTime(seconds)
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime} {
		if at, err := time.ParseInLocation(layout, s, time.Local); err == nil && at.Year() > 1970 && at.Year() < 2200 {
			return at, true
		}
	}
	return time.Time{}, false
}
