//go:build cgo && linux

package nvml

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// source reads GPUs by a library. Its methods are called by one goroutine.
type source struct {
	lib    nvml.Interface
	loaded bool
	// has tells which of the newer functions this driver's library has.
	// Calling one that it lacks would end the process: go-nvml binds lazily.
	has struct{ memoryV2, eventReasons bool }

	events  nvml.EventSet
	stop    chan struct{}
	stopped sync.WaitGroup
	mu      sync.Mutex
	errors  map[string]xid // by UUID
}

// xid is the latest critical error of a device.
type xid struct {
	number uint64
	at     time.Time
}

func open(gpuprobe.Config) (gpuprobe.Source, error) { return newSource(nvml.New()), nil }

func newSource(lib nvml.Interface) *source {
	return &source{lib: lib, errors: map[string]xid{}}
}

// Read asks all devices. A value that a device does not have is missing; only
// a library that answers nothing at all is an error.
func (s *source) Read(context.Context) (gpuprobe.Sample, error) {
	if err := s.load(); err != nil {
		return gpuprobe.Sample{}, err
	}
	count, ret := s.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		// The driver may have been replaced or its GPU reset: begin anew.
		_ = s.Close()
		return gpuprobe.Sample{}, fmt.Errorf("counting GPUs with NVML: %s", describe(ret))
	}
	sample := gpuprobe.Sample{MeasuredAt: time.Now()}
	for i := range count {
		device, ret := s.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			// A lost GPU must not hide the others, nor go unseen.
			sample.Devices = append(sample.Devices, gpuprobe.Device{Index: gpuprobe.Some(i), Name: describe(ret)})
			continue
		}
		d := s.read(device)
		d.Index = gpuprobe.Some(i)
		sample.Devices = append(sample.Devices, d)
		sample.Devices = append(sample.Devices, s.instances(device, &d)...)
	}
	return sample, nil
}

// load loads the library at the first reading, so that a host whose driver
// comes up later is read as soon as it has one.
func (s *source) load() error {
	if s.loaded {
		return nil
	}
	if ret := s.lib.Init(); ret != nvml.SUCCESS {
		return fmt.Errorf("loading NVML: %s", describe(ret))
	}
	s.loaded = true
	extensions := s.lib.Extensions()
	s.has.memoryV2 = extensions.LookupSymbol("nvmlDeviceGetMemoryInfo_v2") == nil
	s.has.eventReasons = extensions.LookupSymbol("nvmlDeviceGetCurrentClocksEventReasons") == nil
	s.listen()
	return nil
}

// describe is a sentence, also for the codes that nvmlErrorString can only
// tell with the library loaded.
func describe(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "libnvidia-ml.so.1 is not on this host: install the NVIDIA driver"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the NVIDIA driver is not loaded"
	case nvml.ERROR_NO_PERMISSION:
		return "no permission to use the NVIDIA driver"
	case nvml.ERROR_GPU_IS_LOST:
		return "a GPU has fallen off the bus"
	default:
		return fmt.Sprintf("error %d of NVML", int(ret))
	}
}

func (s *source) read(device nvml.Device) gpuprobe.Device {
	d := s.memory(device)
	if name, ret := device.GetName(); ret == nvml.SUCCESS {
		d.Name = name
	}
	if u, ret := device.GetUtilizationRates(); ret == nvml.SUCCESS && u.Gpu <= 100 {
		d.Utilization = gpuprobe.Some(float64(u.Gpu) / 100)
	}
	if celsius, ret := device.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
		d.TemperatureC = gpuprobe.Some(float64(celsius))
	}
	if milliwatts, ret := device.GetPowerUsage(); ret == nvml.SUCCESS {
		d.PowerW = gpuprobe.Some(float64(milliwatts) / 1000)
	}
	reasons := device.GetCurrentClocksThrottleReasons
	if s.has.eventReasons {
		reasons = device.GetCurrentClocksEventReasons
	}
	if bits, ret := reasons(); ret == nvml.SUCCESS {
		d.Throttle = gpuprobe.Some(gpuprobe.ThrottleReasons(bits))
	}
	if n, ret := device.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC); ret == nvml.SUCCESS {
		d.ECCUncorrected = gpuprobe.Some(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.errors[d.UUID]; ok {
		d.XID, d.XIDAt = gpuprobe.Some(last.number), last.at
	} else if s.events != nil {
		d.XID = gpuprobe.Some[uint64](0) // none since we listen
	}
	return d
}

// memory reads what whole GPUs and MIG instances both have.
func (s *source) memory(device nvml.Device) gpuprobe.Device {
	var d gpuprobe.Device
	if uuid, ret := device.GetUUID(); ret == nvml.SUCCESS {
		d.UUID = uuid
	}
	// Version 1 counts what the driver keeps for itself as used.
	if s.has.memoryV2 {
		if m, ret := device.GetMemoryInfo_v2(); ret == nvml.SUCCESS {
			d.MemoryUsedBytes, d.MemoryTotalBytes = gpuprobe.Some(m.Used), gpuprobe.Some(m.Total)
			return d
		}
	}
	if m, ret := device.GetMemoryInfo(); ret == nvml.SUCCESS {
		d.MemoryUsedBytes, d.MemoryTotalBytes = gpuprobe.Some(m.Used), gpuprobe.Some(m.Total)
	}
	return d
}

// instances reads the MIG instances of a GPU. NVML knows their memory, but not
// how busy they are.
func (s *source) instances(device nvml.Device, parent *gpuprobe.Device) []gpuprobe.Device {
	if mode, _, ret := device.GetMigMode(); ret != nvml.SUCCESS || mode != nvml.DEVICE_MIG_ENABLE {
		return nil
	}
	count, ret := device.GetMaxMigDeviceCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	instances := make([]gpuprobe.Device, 0, count)
	for i := range count {
		handle, ret := device.GetMigDeviceHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // a slot without an instance
		}
		d := s.memory(handle)
		d.Name, d.Index = parent.Name, parent.Index
		if id, ret := handle.GetGpuInstanceId(); ret == nvml.SUCCESS {
			d.Instance = fmt.Sprint(id)
		}
		instances = append(instances, d)
	}
	return instances
}

// eventWait is how long one wait for errors lasts, and so how long Close may.
const eventWait = 250 * time.Millisecond

// listen gathers the critical errors that the driver announces. Where it
// cannot, XIDs stay unknown.
func (s *source) listen() {
	events, ret := s.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		return
	}
	registered := false
	count, _ := s.lib.DeviceGetCount()
	for i := range count {
		if device, ret := s.lib.DeviceGetHandleByIndex(i); ret == nvml.SUCCESS {
			registered = device.RegisterEvents(nvml.EventTypeXidCriticalError, events) == nvml.SUCCESS || registered
		}
	}
	if !registered {
		_ = events.Free()
		return
	}
	s.events, s.stop = events, make(chan struct{})
	s.stopped.Go(func() { s.gather(events, s.stop) })
}

func (s *source) gather(events nvml.EventSet, stop chan struct{}) {
	for {
		event, ret := events.Wait(uint32(eventWait.Milliseconds()))
		pause := time.Duration(0)
		switch ret {
		case nvml.SUCCESS:
			if uuid, ret := event.Device.GetUUID(); ret == nvml.SUCCESS {
				s.mu.Lock()
				s.errors[uuid] = xid{event.EventData, time.Now()}
				s.mu.Unlock()
			}
		case nvml.ERROR_TIMEOUT:
		default:
			pause = 10 * eventWait // a lost GPU answers at once, again and again
		}
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// Close unloads the library. A later Read loads it again.
func (s *source) Close() error {
	if !s.loaded {
		return nil
	}
	s.loaded = false
	if s.events != nil {
		close(s.stop)
		s.stopped.Wait()
		_ = s.events.Free()
		s.events = nil
	}
	if ret := s.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("unloading NVML: %s", describe(ret))
	}
	return nil
}
