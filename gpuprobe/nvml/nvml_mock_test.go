//go:build cgo && linux

package nvml

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// server is go-nvml's DGX A100 with the functions that it leaves out.
func server(events chan nvml.EventData) *dgxa100.Server {
	s := dgxa100.New()
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			WaitFunc: func(milliseconds uint32) (nvml.EventData, nvml.Return) {
				select {
				case e := <-events:
					return e, nvml.SUCCESS
				case <-time.After(time.Duration(milliseconds) * time.Millisecond / 50):
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
			},
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	for i := range s.Devices {
		d := s.Devices[i].(*dgxa100.Device)
		d.UUID = "GPU-" + string(rune('a'+i))
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: uint32(10 * i), Memory: 1}, nvml.SUCCESS
		}
		d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
			return nvml.Memory_v2{Total: 40 << 30, Reserved: 1 << 30, Used: uint64(i) << 30}, nvml.SUCCESS
		}
		d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 50, nvml.SUCCESS }
		d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 70500, nvml.SUCCESS }
		d.GetCurrentClocksEventReasonsFunc = func() (uint64, nvml.Return) { return 1, nvml.SUCCESS }
		d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) { return 2, nvml.SUCCESS }
		d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
	}
	return s
}

func device(s *dgxa100.Server, i int) *dgxa100.Device { return s.Devices[i].(*dgxa100.Device) }

func read(t *testing.T, s *source) gpuprobe.Sample {
	t.Helper()
	sample, err := s.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return sample
}

func opened(t *testing.T, lib nvml.Interface) *source {
	t.Helper()
	s := newSource(lib)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAllDevicesOfAServerAreRead(t *testing.T) {
	got := read(t, opened(t, server(nil)))
	if len(got.Devices) != 8 || time.Since(got.MeasuredAt) > time.Minute {
		t.Fatalf("%+v", got)
	}
	want := gpuprobe.Device{
		UUID: "GPU-d", Name: "Mock NVIDIA A100-SXM4-40GB", Index: gpuprobe.Some(3), Utilization: gpuprobe.Some(0.3),
		MemoryUsedBytes: gpuprobe.Some[uint64](3 << 30), MemoryTotalBytes: gpuprobe.Some[uint64](40 << 30),
		TemperatureC: gpuprobe.Some(50.), PowerW: gpuprobe.Some(70.5), Throttle: gpuprobe.Some(gpuprobe.ThrottleIdle),
		XID: gpuprobe.Some[uint64](0), ECCUncorrected: gpuprobe.Some[uint64](2),
	}
	if !reflect.DeepEqual(got.Devices[3], want) {
		t.Errorf("got  %+v\nwant %+v", got.Devices[3], want)
	}
}

func TestWhatADeviceDoesNotHaveIsMissing(t *testing.T) {
	lib := server(nil)
	d := device(lib, 0)
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, nvml.ERROR_NOT_SUPPORTED }
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		return 0, nvml.ERROR_NOT_SUPPORTED
	}
	lib.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i == 1 {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return lib.Devices[i], nvml.SUCCESS
	}
	got := read(t, opened(t, lib))
	if got.Devices[0].Utilization.Known() || got.Devices[0].ECCUncorrected.Known() {
		t.Errorf("%+v", got.Devices[0])
	}
	if lost := got.Devices[1]; len(got.Devices) != 8 || lost.Utilization.Known() || !strings.Contains(lost.Name, "fallen off the bus") {
		t.Errorf("%+v", lost)
	}
}

// go-nvml's mock panics on functions that are not set, as a real library that
// lacks them ends the process.
func TestAnOldDriversMissingFunctionsAreNotCalled(t *testing.T) {
	lib := server(nil)
	lib.LookupSymbolFunc = func(string) error { return errors.New("no such symbol") }
	for i := range lib.Devices {
		d := device(lib, i)
		d.GetMemoryInfo_v2Func, d.GetCurrentClocksEventReasonsFunc = nil, nil
		d.MemoryInfo = nvml.Memory{Total: 10, Used: 4}
		d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 4, nvml.SUCCESS }
	}
	got := read(t, opened(t, lib)).Devices[0]
	if got.MemoryUsedBytes != gpuprobe.Some[uint64](4) || got.Throttle != gpuprobe.Some(gpuprobe.ThrottlePowerCap) {
		t.Errorf("%+v", got)
	}
}

func TestErrorsThatTheDriverAnnouncesAreKept(t *testing.T) {
	events := make(chan nvml.EventData)
	lib := server(events)
	s := opened(t, lib)
	read(t, s)
	events <- nvml.EventData{Device: lib.Devices[2], EventType: nvml.EventTypeXidCriticalError, EventData: 79}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		d := read(t, s).Devices[2]
		if d.XID == gpuprobe.Some[uint64](79) && time.Since(d.XIDAt) < time.Minute {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", d)
		}
	}
}

func TestMIGInstancesAreDevices(t *testing.T) {
	lib := server(nil)
	d := device(lib, 0)
	d.MigMode = nvml.DEVICE_MIG_ENABLE
	d.GetMaxMigDeviceCountFunc = func() (int, nvml.Return) { return 7, nvml.SUCCESS }
	d.GetMigDeviceHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		if i != 2 {
			return nil, nvml.ERROR_NOT_FOUND
		}
		return &mock.Device{
			GetUUIDFunc: func() (string, nvml.Return) { return "MIG-x", nvml.SUCCESS },
			GetMemoryInfo_v2Func: func() (nvml.Memory_v2, nvml.Return) {
				return nvml.Memory_v2{Total: 100, Used: 25}, nvml.SUCCESS
			},
			GetGpuInstanceIdFunc: func() (int, nvml.Return) { return 9, nvml.SUCCESS },
		}, nvml.SUCCESS
	}
	got := read(t, opened(t, lib))
	if len(got.Devices) != 9 {
		t.Fatalf("%d devices", len(got.Devices))
	}
	want := gpuprobe.Device{
		UUID: "MIG-x", Name: "Mock NVIDIA A100-SXM4-40GB", Index: gpuprobe.Some(0), Instance: "9",
		MemoryUsedBytes: gpuprobe.Some[uint64](25), MemoryTotalBytes: gpuprobe.Some[uint64](100),
	}
	if !reflect.DeepEqual(got.Devices[1], want) {
		t.Errorf("got  %+v\nwant %+v", got.Devices[1], want)
	}
}

func TestALibraryThatFailsIsLoadedAgain(t *testing.T) {
	lib := server(nil)
	count := lib.DeviceGetCountFunc
	s := opened(t, lib)
	read(t, s)
	lib.DeviceGetCountFunc = func() (int, nvml.Return) { return 0, nvml.ERROR_DRIVER_NOT_LOADED }
	if _, err := s.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "driver is not loaded") {
		t.Errorf("error %v", err)
	}
	lib.DeviceGetCountFunc = count
	if got := read(t, s); len(got.Devices) != 8 || len(lib.InitCalls()) != 2 || len(lib.ShutdownCalls()) != 1 {
		t.Errorf("%d devices, loaded %d times, unloaded %d times", len(got.Devices), len(lib.InitCalls()), len(lib.ShutdownCalls()))
	}
}
