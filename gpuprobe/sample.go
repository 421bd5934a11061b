// Package gpuprobe reads what a model node says of itself: the state of its
// GPUs, and the queue of its server. A Source reads one node in one of many
// ways (see Kinds); a Watch keeps reading it.
//
// Nothing here is trusted: sizes and times are bounded, impossible values are
// dropped, and a value that is not known is missing, never zero.
package gpuprobe

import (
	"math"
	"time"
)

// Sample is one report of a node. Fields that the source does not know are
// missing.
type Sample struct {
	// MeasuredAt is when the values were measured, as well as the source
	// tells: an exporter that collects each 30 s serves old values.
	MeasuredAt time.Time
	// Devices are the node's GPUs.
	Devices []Device
	// Utilization is the busy share of the node's accelerators, 0 to 1, where
	// the source knows it but not by device. See GPUUtilization.
	Utilization Optional[float64]
	// MemoryUtilization is the used share of GPU memory, 0 to 1, where the
	// source knows no bytes. See GPUMemoryUtilization.
	MemoryUtilization Optional[float64]
	// CPUUtilization and HostMemoryUtilization are shares of the host, 0 to 1.
	CPUUtilization, HostMemoryUtilization Optional[float64]
	// Queue counts the requests that wait in the model server, Running those
	// that it computes; InFlight is both, where they are not told apart.
	Queue, Running, InFlight Optional[float64]
	// KVCache is the used share of a language model's cache, 0 to 1.
	KVCache Optional[float64]
	// Model and ModelDigest name what is served; empty when unknown.
	Model, ModelDigest string
	// Healthy is the node's own verdict; APIHealthy and WebUIHealthy are its
	// parts.
	Healthy, APIHealthy, WebUIHealthy Optional[bool]
	// Agent is what a HAProxy agent asked for.
	Agent Agent
}

// Device is one GPU, or one MIG instance of a GPU.
type Device struct {
	UUID  string
	Name  string
	Index Optional[int]
	// Instance is the MIG instance, empty for a whole GPU.
	Instance string
	// Utilization is the share of time with work on the device, 0 to 1. It
	// says little about how much more the device could do.
	Utilization Optional[float64]
	// MemoryUsedBytes and MemoryTotalBytes are of the device's own memory.
	MemoryUsedBytes, MemoryTotalBytes Optional[uint64]
	TemperatureC                      Optional[float64]
	PowerW                            Optional[float64]
	// Throttle has the reasons for which clocks are below their maximum now.
	Throttle Optional[ThrottleReasons]
	// XID is the driver's number of the latest error, 0 for none; XIDAt is
	// when it happened, the zero time when unknown.
	XID   Optional[uint64]
	XIDAt time.Time
	// ECCUncorrected counts memory errors since the driver was loaded that
	// ECC could not correct.
	ECCUncorrected Optional[uint64]
}

// GPUUtilization is the busiest device's utilisation, or the node's where
// devices are not known.
func (s *Sample) GPUUtilization() Optional[float64] {
	return s.worst(s.Utilization, func(d *Device) Optional[float64] { return d.Utilization })
}

// GPUMemoryUtilization is the used share of the fullest device's memory.
func (s *Sample) GPUMemoryUtilization() Optional[float64] {
	return s.worst(s.MemoryUtilization, (*Device).MemoryUtilization)
}

// TemperatureC is the hottest device's temperature in °C.
func (s *Sample) TemperatureC() Optional[float64] {
	return s.worst(Optional[float64]{}, func(d *Device) Optional[float64] { return d.TemperatureC })
}

// worst is the largest value of all devices, or the node's without any.
func (s *Sample) worst(node Optional[float64], of func(*Device) Optional[float64]) Optional[float64] {
	var max Optional[float64]
	for i := range s.Devices {
		if v, ok := of(&s.Devices[i]).Get(); ok && v >= max.Or(math.Inf(-1)) {
			max = Some(v)
		}
	}
	if max.Known() {
		return max
	}
	return node
}

// MemoryUtilization is the used share of the device's memory, 0 to 1.
func (d *Device) MemoryUtilization() Optional[float64] {
	used, ok := d.MemoryUsedBytes.Get()
	total, known := d.MemoryTotalBytes.Get()
	if !ok || !known || total == 0 {
		return Optional[float64]{}
	}
	return Some(min(float64(used)/float64(total), 1))
}

// empty tells whether the sample says nothing at all.
func (s *Sample) empty() bool {
	return len(s.Devices) == 0 && !s.Utilization.Known() && !s.MemoryUtilization.Known() &&
		!s.CPUUtilization.Known() && !s.HostMemoryUtilization.Known() &&
		!s.Queue.Known() && !s.Running.Known() && !s.InFlight.Known() && !s.KVCache.Known() &&
		s.Model == "" && s.ModelDigest == "" &&
		!s.Healthy.Known() && !s.APIHealthy.Known() && !s.WebUIHealthy.Known() && s.Agent == (Agent{})
}

// Limits of what is believed. Exporters stand huge numbers in for "unknown"
// (DCGM's blanks begin at 2^31-16), and a reader must not take them for load.
const (
	maxDevices  = 256
	maxString   = 256
	maxBytes    = 1 << 50
	maxCount    = 1e9
	maxWatts    = 100_000
	minCelsius  = -60
	maxCelsius  = 250
	maxOverfull = 2
)

// ratio drops what is no share and cuts rounding above 1. A value above 2 is
// no rounding: somebody maps percents without a scale.
func ratio(v float64) Optional[float64] {
	if !(v >= 0 && v <= maxOverfull) {
		return Optional[float64]{}
	}
	return Some(min(v, 1))
}

func within(v, lo, hi float64) Optional[float64] {
	if !(v >= lo && v <= hi) {
		return Optional[float64]{}
	}
	return Some(v)
}

func count(v float64) Optional[float64] { return within(v, 0, maxCount) }

// whole is for bytes and for numbers that name something.
func whole(v, hi float64) Optional[uint64] {
	if !(v >= 0 && v <= hi) {
		return Optional[uint64]{}
	}
	return Some(uint64(v))
}

// label bounds a text of the node's.
func label(s string) string {
	if len(s) > maxString {
		return s[:maxString]
	}
	return s
}

// unixTime reads seconds since 1970, or milliseconds where the number is too
// large for seconds. ok is false for what is no time.
func unixTime(v float64) (time.Time, bool) {
	if v > 1e11 {
		v /= 1000
	}
	if !(v > 0 && v < 1e11) {
		return time.Time{}, false
	}
	seconds, fraction := math.Modf(v)
	return time.Unix(int64(seconds), int64(fraction*1e9)), true
}
