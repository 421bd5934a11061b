package gpuprobe

import "cmp"

// Merge adds a second source's sample to that of a first. Of a device that both know, and of
// names, the first source's values stand; counts add up, as those of several
// servers; of shares the larger counts; a verdict is good only if both are.
func Merge(s, more *Sample) {
	if s.MeasuredAt.IsZero() || more.MeasuredAt.Before(s.MeasuredAt) {
		s.MeasuredAt = more.MeasuredAt
	}
	for _, d := range more.Devices {
		mergeDevice(s, d)
	}
	raise(&s.Utilization, more.Utilization)
	raise(&s.MemoryUtilization, more.MemoryUtilization)
	raise(&s.CPUUtilization, more.CPUUtilization)
	raise(&s.HostMemoryUtilization, more.HostMemoryUtilization)
	raise(&s.KVCache, more.KVCache)
	sum(&s.Queue, more.Queue)
	sum(&s.Running, more.Running)
	// Some servers tell running and waiting apart, some do not.
	inFlight := more.InFlight
	if !inFlight.Known() && more.Running.Known() {
		inFlight = Some(more.Running.Or(0) + more.Queue.Or(0))
	}
	sum(&s.InFlight, inFlight)
	s.Model, s.ModelDigest = cmp.Or(s.Model, more.Model), cmp.Or(s.ModelDigest, more.ModelDigest)
	agree(&s.Healthy, more.Healthy)
	agree(&s.APIHealthy, more.APIHealthy)
	agree(&s.WebUIHealthy, more.WebUIHealthy)
}

func mergeDevice(s *Sample, d Device) {
	for i := range s.Devices {
		if k := &s.Devices[i]; sameDevice(k, &d) {
			k.UUID, k.Name = cmp.Or(k.UUID, d.UUID), cmp.Or(k.Name, d.Name)
			first(&k.Index, d.Index)
			first(&k.Utilization, d.Utilization)
			first(&k.MemoryUsedBytes, d.MemoryUsedBytes)
			first(&k.MemoryTotalBytes, d.MemoryTotalBytes)
			first(&k.TemperatureC, d.TemperatureC)
			first(&k.PowerW, d.PowerW)
			first(&k.Throttle, d.Throttle)
			if !k.XID.Known() {
				k.XID, k.XIDAt = d.XID, d.XIDAt
			}
			first(&k.ECCUncorrected, d.ECCUncorrected)
			return
		}
	}
	if len(s.Devices) < maxDevices {
		s.Devices = append(s.Devices, d)
	}
}

// sameDevice goes by the UUID, or by the index where one side has none.
func sameDevice(a, b *Device) bool {
	if a.Instance != b.Instance {
		return false
	}
	if a.UUID != "" && b.UUID != "" {
		return a.UUID == b.UUID
	}
	i, known := a.Index.Get()
	j, too := b.Index.Get()
	return known && too && i == j
}

func first[T any](o *Optional[T], v Optional[T]) {
	if !o.Known() {
		*o = v
	}
}

func agree(o *Optional[bool], v Optional[bool]) {
	if value, ok := v.Get(); ok {
		*o = Some(o.Or(true) && value)
	}
}
