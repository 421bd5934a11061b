package gpuprobe

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// orcaReport is xds.data.orca.v3.OrcaLoadReport, as far as a Sample fills it.
type orcaReport struct {
	CPUUtilization         float64            `json:"cpu_utilization,omitempty"`
	MemUtilization         float64            `json:"mem_utilization,omitempty"`
	ApplicationUtilization float64            `json:"application_utilization,omitempty"`
	NamedMetrics           map[string]float64 `json:"named_metrics,omitempty"`

	named []string // keys of NamedMetrics in their order
}

// WantsORCA tells whether a request asks for a report, in a format that
// SetORCA knows.
func WantsORCA(request http.Header) bool {
	switch strings.ToUpper(request.Get(orcaFormat)) {
	case "TEXT", "JSON", "BIN":
		return true
	}
	return false
}

// AskORCA makes a request ask for a report.
func AskORCA(request http.Header) { request.Set(orcaFormat, "JSON") }

// DropORCA takes a report out of a response.
func DropORCA(response http.Header) {
	response.Del(orcaHeader)
	response.Del(orcaBinHeader)
}

// SetORCA puts the report that a request asks for into the headers of its
// response: TEXT and JSON into endpoint-load-metrics, BIN into
// endpoint-load-metrics-bin. A report that is there already stays: whoever
// answers knows itself best. Nothing is set when the request asks for none or
// nothing is known.
func SetORCA(request, response http.Header, s *Sample) {
	if !WantsORCA(request) || response.Get(orcaHeader) != "" || response.Get(orcaBinHeader) != "" {
		return
	}
	r := newORCAReport(s)
	if r.CPUUtilization == 0 && r.MemUtilization == 0 && len(r.named) == 0 {
		return
	}
	switch strings.ToUpper(request.Get(orcaFormat)) {
	case "TEXT":
		response.Set(orcaHeader, "TEXT "+r.text())
	case "JSON":
		if text, err := json.Marshal(r); err == nil {
			response.Set(orcaHeader, "JSON "+string(text))
		}
	default:
		response.Set(orcaBinHeader, base64.StdEncoding.EncodeToString(r.binary()))
	}
}

// newORCAReport leaves the map "utilization" empty: Envoy refuses a TEXT
// report with any of its entries ("unsupported metric name"), and three formats
// should not differ in what they say. application_utilization is what Envoy's
// and gRPC's client-side weighted round robin take first.
func newORCAReport(s *Sample) orcaReport {
	r := orcaReport{
		CPUUtilization: round4(s.CPUUtilization.Or(0)),
		MemUtilization: round4(s.HostMemoryUtilization.Or(0)),
		NamedMetrics:   map[string]float64{},
	}
	named := func(name string, o Optional[float64]) {
		if v, ok := o.Get(); ok {
			r.NamedMetrics[name] = round4(v)
			r.named = append(r.named, name)
		}
	}
	r.ApplicationUtilization = round4(s.GPUUtilization().Or(0))
	named("gpu_utilization", s.GPUUtilization())
	named("gpu_memory_utilization", s.GPUMemoryUtilization())
	named("kv_cache_usage_perc", s.KVCache)
	named("num_requests_waiting", s.Queue)
	named("num_requests_running", s.Running)
	named("in_flight", s.InFlight)
	return r
}

func round4(v float64) float64 { return math.Round(v*10_000) / 10_000 }

// text is Envoy's form, name:value.
func (r *orcaReport) text() string {
	var b strings.Builder
	put := func(name string, v float64) {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(name + ":" + strconv.FormatFloat(v, 'f', -1, 64))
	}
	// As in the protocol, whose numbers have no "unknown", zero is left out.
	for _, field := range []struct {
		name string
		v    float64
	}{
		{"cpu_utilization", r.CPUUtilization},
		{"mem_utilization", r.MemUtilization},
		{"application_utilization", r.ApplicationUtilization},
	} {
		if field.v != 0 {
			put(field.name, field.v)
		}
	}
	for _, name := range r.named {
		put("named_metrics."+name, r.NamedMetrics[name])
	}
	return b.String()
}

// binary is the message in protobuf's encoding, by the numbers of orcaFields.
func (r *orcaReport) binary() []byte {
	var b []byte
	double := func(number protowire.Number, v float64) {
		if v != 0 {
			b = protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), math.Float64bits(v))
		}
	}
	double(1, r.CPUUtilization)
	double(2, r.MemUtilization)
	for _, name := range r.named {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		entry = protowire.AppendFixed64(protowire.AppendTag(entry, 2, protowire.Fixed64Type), math.Float64bits(r.NamedMetrics[name]))
		b = protowire.AppendBytes(protowire.AppendTag(b, 8, protowire.BytesType), entry)
	}
	double(9, r.ApplicationUtilization)
	return b
}
