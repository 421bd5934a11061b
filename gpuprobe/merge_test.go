package gpuprobe

import (
	"strings"
	"testing"
	"time"
)

func TestSourcesAddUp(t *testing.T) {
	now := time.Now()
	s := Sample{
		MeasuredAt: now,
		Devices:    []Device{{UUID: "a", Index: some(0), Utilization: some(0.5)}},
		Queue:      some(1.), KVCache: some(0.2), Model: "first", Healthy: some(true),
	}
	Merge(&s, &Sample{
		MeasuredAt: now.Add(-time.Second),
		Devices: []Device{
			{UUID: "a", Utilization: some(0.9), PowerW: some(100.)},
			{Index: some(0), TemperatureC: some(50.)},
			{UUID: "b"},
		},
		Queue: some(2.), Running: some(3.), KVCache: some(0.4), Model: "second", Healthy: some(false),
	})
	if len(s.Devices) != 2 || s.Devices[0].Utilization != some(0.5) || s.Devices[0].PowerW != some(100.) || s.Devices[0].TemperatureC != some(50.) {
		t.Errorf("devices %+v", s.Devices)
	}
	if s.Queue != some(3.) || s.Running != some(3.) || s.InFlight != some(5.) || s.KVCache != some(0.4) || s.Model != "first" ||
		s.Healthy != some(false) || !s.MeasuredAt.Equal(now.Add(-time.Second)) {
		t.Errorf("%+v", s)
	}
	for range 300 {
		Merge(&s, &Sample{Devices: []Device{{UUID: strings.Repeat("x", len(s.Devices))}}})
	}
	if len(s.Devices) != maxDevices {
		t.Errorf("%d devices", len(s.Devices))
	}
}
