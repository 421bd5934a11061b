package gpuprobe

import "net/http"

// exporter is a kind that is nothing but a table of metric names.
type exporter struct {
	name, summary string
	port          int
	modelLabel    string
	metrics       []Metric
}

const mebibyte = 1 << 20

// exporters are read at /metrics. The names are from the programs' own
// documentation; where a name changed, the present one comes first.
var exporters = []exporter{
	{
		name: "dcgm", summary: "NVIDIA's dcgm-exporter; run it with -c 1000, its own interval is 30 s", port: 9400,
		metrics: []Metric{
			{Field: FieldUtilization, Name: "DCGM_FI_DEV_GPU_UTIL", Scale: 0.01},
			// MIG instances have no GPU_UTIL.
			{Field: FieldUtilization, Name: "DCGM_FI_PROF_GR_ENGINE_ACTIVE"},
			{Field: FieldMemoryUsed, Name: "DCGM_FI_DEV_FB_USED", Scale: mebibyte},
			{Field: FieldMemoryFree, Name: "DCGM_FI_DEV_FB_FREE", Scale: mebibyte},
			{Field: FieldMemoryReserved, Name: "DCGM_FI_DEV_FB_RESERVED", Scale: mebibyte},
			{Field: FieldMemoryTotal, Name: "DCGM_FI_DEV_FB_TOTAL", Scale: mebibyte},
			{Field: FieldTemperature, Name: "DCGM_FI_DEV_GPU_TEMP"},
			{Field: FieldPower, Name: "DCGM_FI_DEV_POWER_USAGE"},
			{Field: FieldXID, Name: "DCGM_FI_DEV_XID_ERRORS"},
			{Field: FieldThrottle, Name: "DCGM_FI_DEV_CLOCKS_EVENT_REASONS"},
			{Field: FieldThrottle, Name: "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"},
			{Field: FieldECC, Name: "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"},
		},
	},
	{
		name: "nvidia_gpu_exporter", summary: "utkuozdemir/nvidia_gpu_exporter", port: 9835,
		metrics: append(throttleMetrics("nvidia_smi_clocks_event_reasons_", "nvidia_smi_clocks_throttle_reasons_"),
			Metric{Field: FieldInfo, Name: "nvidia_smi_gpu_info"},
			Metric{Field: FieldUtilization, Name: "nvidia_smi_utilization_gpu_ratio"},
			Metric{Field: FieldMemoryUsed, Name: "nvidia_smi_memory_used_bytes"},
			Metric{Field: FieldMemoryTotal, Name: "nvidia_smi_memory_total_bytes"},
			Metric{Field: FieldTemperature, Name: "nvidia_smi_temperature_gpu"},
			Metric{Field: FieldPower, Name: "nvidia_smi_power_draw_watts"},
			Metric{Field: FieldECC, Name: "nvidia_smi_ecc_errors_uncorrected_volatile_total"},
			Metric{Field: FieldXIDTime, Name: "nvidia_smi_xid_last_timestamp_seconds"},
			// It may collect by itself and serve what it has: this is how old
			// the page is.
			Metric{Field: FieldMeasuredAt, Name: "nvidia_smi_last_collect_success_timestamp_seconds"},
		),
	},
	{
		name: "triton", summary: "NVIDIA Triton Inference Server", port: 8002,
		metrics: []Metric{
			{Field: FieldUtilization, Name: "nv_gpu_utilization"},
			{Field: FieldMemoryUsed, Name: "nv_gpu_memory_used_bytes"},
			{Field: FieldMemoryTotal, Name: "nv_gpu_memory_total_bytes"},
			{Field: FieldPower, Name: "nv_gpu_power_usage"},
			{Field: FieldQueue, Name: "nv_inference_pending_request_count"},
		},
	},
	{
		name: "vllm", summary: "vLLM", modelLabel: "model_name",
		metrics: []Metric{
			{Field: FieldQueue, Name: "vllm:num_requests_waiting"},
			{Field: FieldRunning, Name: "vllm:num_requests_running"},
			{Field: FieldKVCache, Name: "vllm:kv_cache_usage_perc"}, // 0 to 1 in spite of its name
			{Field: FieldKVCache, Name: "vllm:gpu_cache_usage_perc"},
		},
	},
	{
		name: "sglang", summary: "SGLang, started with --enable-metrics", modelLabel: "model_name",
		metrics: []Metric{
			// With priorities there is one series each, and their sum.
			{Field: FieldQueue, Name: "sglang:num_queue_reqs", Labels: map[string]string{"priority": ""}},
			{Field: FieldRunning, Name: "sglang:num_running_reqs", Labels: map[string]string{"priority": ""}},
			{Field: FieldKVCache, Name: "sglang:token_usage"},
		},
	},
	{
		name: "tei", summary: "Hugging Face Text Embeddings Inference",
		metrics: []Metric{{Field: FieldQueue, Name: "te_queue_size"}},
	},
	{
		name: "llamacpp", summary: "llama.cpp's server, started with --metrics",
		metrics: []Metric{
			{Field: FieldQueue, Name: "llamacpp:requests_deferred"},
			{Field: FieldRunning, Name: "llamacpp:requests_processing"},
			{Field: FieldKVCache, Name: "llamacpp:kv_cache_usage_ratio"}, // older builds
		},
	},
}

// throttleMetrics are for exporters with one 0/1 metric for each reason.
func throttleMetrics(prefixes ...string) []Metric {
	metrics := make([]Metric, 0, len(prefixes)*len(throttleNames))
	for _, prefix := range prefixes {
		for bit, name := range throttleNames {
			metrics = append(metrics, Metric{Field: FieldThrottle, Name: prefix + name, Bit: 1 << bit})
		}
	}
	return metrics
}

func init() {
	for _, e := range exporters {
		Register(Kind{Name: e.name, Summary: e.summary, Port: e.port, Open: func(c Config) (Source, error) {
			return openPrometheus(c, e)
		}})
	}
	Register(Kind{Name: "prometheus", Summary: "any Prometheus page, with a mapping of its names", Open: func(c Config) (Source, error) {
		metrics, err := parseMapping(c.Mapping)
		if err != nil {
			return nil, err
		}
		return openPrometheus(c, exporter{metrics: metrics})
	}})
	Register(Kind{Name: "json", Summary: "a health script's JSON, or any JSON with a mapping of its keys", Open: openJSON})
	Register(Kind{Name: "agent_check", Summary: "an agent as HAProxy's agent-check reads it", Open: openAgent})
	Register(Kind{Name: "orca", Summary: "the response header endpoint-load-metrics (ORCA)", Open: openORCA})
	Register(Kind{Name: "push", Summary: "reports that the node posts", Open: openPush})
	Register(Kind{Name: "nvidia_smi", Summary: "this host's GPUs, by the program nvidia-smi", Local: true, Open: openSMI})
}

func openPrometheus(c Config, e exporter) (Source, error) {
	w, err := newWeb(c.Address, e.port, "/metrics", acceptText)
	if err != nil {
		return nil, err
	}
	return &prometheusSource{w, e.metrics, e.modelLabel}, nil
}

func openJSON(c Config) (Source, error) {
	w, err := newWeb(c.Address, 0, "/", http.Header{"Accept": {"application/json"}})
	if err != nil {
		return nil, err
	}
	s := &jsonSource{web: w}
	if len(c.Mapping) > 0 {
		if s.metrics, err = parseMapping(c.Mapping); err != nil {
			return nil, err
		}
	}
	return s, nil
}
