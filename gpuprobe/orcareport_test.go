package gpuprobe

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAReportReadsBackInEveryFormatOfORCA(t *testing.T) {
	s := Sample{
		Devices:        []Device{{Utilization: Some(0.4567891), MemoryUsedBytes: Some[uint64](1), MemoryTotalBytes: Some[uint64](4)}},
		CPUUtilization: Some(0.125), HostMemoryUtilization: Some(0.5), KVCache: Some(0.), Queue: Some(0.), InFlight: Some(3.),
	}
	for _, format := range []string{"TEXT", "json", "Bin"} {
		h := http.Header{}
		SetORCA(http.Header{orcaFormat: {format}}, h, &s)
		got, err := ParseORCA(h, time.Now())
		if err != nil || got.GPUUtilization() != Some(0.4568) || got.GPUMemoryUtilization() != Some(0.25) ||
			got.CPUUtilization != Some(0.125) || got.HostMemoryUtilization != Some(0.5) ||
			got.KVCache != Some(0.) || got.Queue != Some(0.) || got.InFlight != Some(3.) || got.Running.Known() {
			t.Errorf("%s %v: %v %+v", format, h, err, got)
		}
		if bin := h.Get(orcaBinHeader) != ""; bin != strings.EqualFold(format, "BIN") {
			t.Errorf("%s came as %v", format, h)
		}
	}
}

func TestAReportIsOnlySentToThoseWhoAskAndNeverOverAnother(t *testing.T) {
	s := Sample{Queue: Some(1.)}
	for _, format := range []string{"", "xml"} {
		h := http.Header{}
		if SetORCA(http.Header{orcaFormat: {format}}, h, &s); len(h) > 0 {
			t.Errorf("%q got %v", format, h)
		}
	}
	for _, theirs := range []string{orcaHeader, orcaBinHeader} {
		h := http.Header{theirs: {"TEXT cpu_utilization:1"}}
		if SetORCA(http.Header{orcaFormat: {"JSON"}}, h, &s); len(h) != 1 || h.Get(theirs) != "TEXT cpu_utilization:1" {
			t.Errorf("%v", h)
		}
	}
	h := http.Header{}
	if SetORCA(http.Header{orcaFormat: {"TEXT"}}, h, &Sample{}); len(h) > 0 {
		t.Errorf("knowing nothing it said %v", h)
	}
}

// Envoy refuses a whole TEXT report for one name that it does not know.
func TestTextHasOnlyNamesThatEnvoyTakes(t *testing.T) {
	s := Sample{Utilization: Some(0.5), CPUUtilization: Some(0.1), Queue: Some(2.)}
	h := http.Header{}
	SetORCA(http.Header{orcaFormat: {"TEXT"}}, h, &s)
	text, ok := strings.CutPrefix(h.Get(orcaHeader), "TEXT ")
	if !ok {
		t.Fatalf("%v", h)
	}
	for pair := range strings.SplitSeq(text, ",") {
		name, _, _ := strings.Cut(pair, ":")
		switch {
		case name == "cpu_utilization", name == "mem_utilization", name == "application_utilization", strings.HasPrefix(name, "named_metrics."):
		default:
			t.Errorf("%s", name)
		}
	}
}
