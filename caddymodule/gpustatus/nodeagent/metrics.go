package nodeagent

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// deviceLabels name a GPU.
var deviceLabels = []string{"index", "uuid", "name", "gpu_instance_id"}

// The metrics of a node. Their prefix is not that of the gateway's, which has
// series of the same things as it sees them.
var (
	nodeHealthy  = nodeDesc("healthy", "Whether the whole node is healthy: 1 or 0.")
	nodeAPI      = nodeDesc("api_healthy", "Whether the node's API is healthy: 1 or 0.")
	nodeWebUI    = nodeDesc("webui_healthy", "Whether the node's WebUI is healthy: 1 or 0.")
	nodeDraining = nodeDesc("draining", "1 while the operator wants no new requests on this node.")
	nodeWeight   = nodeDesc("weight_ratio", "Share of its usual load that the node asks for, as its agent port says.")
	nodeMeasured = nodeDesc("measured_timestamp_seconds", "When the oldest of these values was measured, in seconds since 1970.")
	nodeUse      = nodeDesc("utilization_ratio", "Busy share of the busiest GPU, 0 to 1.")
	nodeMemory   = nodeDesc("memory_utilization_ratio", "Used share of the fullest GPU's memory, 0 to 1.")
	nodeCPU      = nodeDesc("cpu_utilization_ratio", "Busy share of the host's processors, 0 to 1.")
	nodeHost     = nodeDesc("host_memory_utilization_ratio", "Used share of the host's memory, 0 to 1.")
	nodeInFlight = nodeDesc("in_flight_requests", "Requests that the node's model servers have and have not answered.")
	nodeQueue    = nodeDesc("queued_requests", "Requests that wait in the node's model servers.")
	nodeRunning  = nodeDesc("running_requests", "Requests that the node's model servers compute.")
	nodeKVCache  = nodeDesc("kv_cache_utilization_ratio", "Used share of a language model's cache, 0 to 1.")
	nodeModel    = nodeDesc("model_info", "1, with the served model in its labels.", "model", "digest")
	deviceUse    = nodeDesc("device_utilization_ratio", "Share of time with work on the GPU, 0 to 1.", deviceLabels...)
	deviceUsed   = nodeDesc("device_memory_used_bytes", "Used memory of the GPU.", deviceLabels...)
	deviceTotal  = nodeDesc("device_memory_total_bytes", "Memory of the GPU.", deviceLabels...)
	deviceHeat   = nodeDesc("device_temperature_celsius", "Temperature of the GPU.", deviceLabels...)
	devicePower  = nodeDesc("device_power_watts", "Power that the GPU draws.", deviceLabels...)
	deviceSlowed = nodeDesc("device_throttled", "1 while hardware or heat hold the GPU's clocks back.", deviceLabels...)
	deviceXID    = nodeDesc("device_last_xid", "The driver's number of the GPU's latest error, 0 for none.", deviceLabels...)
	deviceECC    = nodeDesc("device_ecc_uncorrected_errors_total", "Memory errors that ECC could not correct, since the driver was loaded.", deviceLabels...)
	nodeDescs    = []*prometheus.Desc{
		nodeHealthy, nodeAPI, nodeWebUI, nodeDraining, nodeWeight, nodeMeasured, nodeUse, nodeMemory, nodeCPU, nodeHost,
		nodeInFlight, nodeQueue, nodeRunning, nodeKVCache, nodeModel, deviceUse, deviceUsed, deviceTotal, deviceHeat,
		devicePower, deviceSlowed, deviceXID, deviceECC,
	}
)

func nodeDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("gpu_node_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (a *Agent) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range nodeDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector: the latest state, at once.
func (a *Agent) Collect(ch chan<- prometheus.Metric) { collect(a.Latest(), ch) }

func collect(s *State, ch chan<- prometheus.Metric) {
	metric := func(kind prometheus.ValueType, d *prometheus.Desc, v float64, labels ...string) {
		for i := range labels { // the registry refuses what is no UTF-8
			labels[i] = strings.ToValidUTF8(labels[i], "?")
		}
		if m, err := prometheus.NewConstMetric(d, kind, v, labels...); err == nil {
			ch <- m
		}
	}
	gauge := func(d *prometheus.Desc, v gpuprobe.Optional[float64], labels ...string) {
		if value, ok := v.Get(); ok {
			metric(prometheus.GaugeValue, d, value, labels...)
		}
	}
	n := &s.Sample
	gauge(nodeHealthy, truth(n.Healthy))
	gauge(nodeAPI, truth(n.APIHealthy))
	gauge(nodeWebUI, truth(n.WebUIHealthy))
	gauge(nodeDraining, truth(gpuprobe.Some(s.Draining)))
	gauge(nodeWeight, gpuprobe.Some(s.Weight))
	gauge(nodeMeasured, gpuprobe.Some(float64(n.MeasuredAt.UnixMilli())/1000))
	gauge(nodeUse, n.GPUUtilization())
	gauge(nodeMemory, n.GPUMemoryUtilization())
	gauge(nodeCPU, n.CPUUtilization)
	gauge(nodeHost, n.HostMemoryUtilization)
	gauge(nodeInFlight, n.InFlight)
	gauge(nodeQueue, n.Queue)
	gauge(nodeRunning, n.Running)
	gauge(nodeKVCache, n.KVCache)
	if n.Model != "" || n.ModelDigest != "" {
		gauge(nodeModel, gpuprobe.Some(1.), n.Model, n.ModelDigest)
	}
	told := map[string]bool{}
	for i := range n.Devices {
		d := &n.Devices[i]
		index := ""
		if v, ok := d.Index.Get(); ok {
			index = strconv.Itoa(v)
		}
		labels := []string{index, d.UUID, d.Name, d.Instance}
		// Two sources may know a GPU by different names and one by none.
		key := strings.Join(labels, "\x00")
		if told[key] {
			continue
		}
		told[key] = true
		gauge(deviceUse, d.Utilization, labels...)
		gauge(deviceUsed, number(d.MemoryUsedBytes), labels...)
		gauge(deviceTotal, number(d.MemoryTotalBytes), labels...)
		gauge(deviceHeat, d.TemperatureC, labels...)
		gauge(devicePower, d.PowerW, labels...)
		if r, ok := d.Throttle.Get(); ok {
			gauge(deviceSlowed, truth(gpuprobe.Some(r.Slowed())), labels...)
		}
		gauge(deviceXID, number(d.XID), labels...)
		if v, ok := d.ECCUncorrected.Get(); ok {
			metric(prometheus.CounterValue, deviceECC, float64(v), labels...)
		}
	}
}

func truth(o gpuprobe.Optional[bool]) gpuprobe.Optional[float64] {
	v, ok := o.Get()
	switch {
	case !ok:
		return gpuprobe.Optional[float64]{}
	case v:
		return gpuprobe.Some(1.)
	}
	return gpuprobe.Some(0.)
}

func number(o gpuprobe.Optional[uint64]) gpuprobe.Optional[float64] {
	v, ok := o.Get()
	if !ok {
		return gpuprobe.Optional[float64]{}
	}
	return gpuprobe.Some(float64(v))
}
