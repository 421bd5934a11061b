package gpuprobe

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"
)

// place is where a value was found: the labels of a series, or the position
// in a JSON list.
type place struct {
	uuid, name, index, instance string
	xid                         string
}

// collector builds a Sample out of mapped values.
type collector struct {
	sample  Sample
	devices []deviceValues
	byKey   map[string]int // positions in devices
	node    map[Field]int  // which of the metrics filled a node's field
}

// deviceValues is a device in the making.
type deviceValues struct {
	Device
	free, reserved Optional[float64]
	from           map[Field]int // which of the metrics filled a field
}

func newCollector() *collector {
	return &collector{byKey: map[string]int{}, node: map[Field]int{}}
}

// device finds or adds the device of a place; nil when there are too many.
func (c *collector) device(p place) *deviceValues {
	key := cmp.Or(p.uuid, "#"+p.index) + "/" + p.instance
	i, ok := c.byKey[key]
	if !ok {
		if len(c.devices) == maxDevices {
			return nil
		}
		i = len(c.devices)
		c.byKey[key] = i
		c.devices = append(c.devices, deviceValues{from: map[Field]int{}})
	}
	d := &c.devices[i]
	d.UUID, d.Instance = cmp.Or(d.UUID, label(p.uuid)), label(p.instance)
	d.Name = cmp.Or(d.Name, label(p.name))
	if n, err := strconv.Atoi(p.index); err == nil && n >= 0 && n < maxDevices {
		d.Index = Some(n)
	}
	return d
}

// add takes a value of the metric with the given position in the mapping. A
// metric that comes later in the mapping never overrides an earlier one.
func (c *collector) add(m *Metric, position int, p place, v float64) {
	if !slices.Contains(deviceFields, m.Field) || m.Field == FieldUtilization && p == (place{}) {
		c.addNode(m, position, v)
		return
	}
	d := c.device(p)
	if d == nil {
		return
	}
	if m.Bit != 0 {
		switch v {
		case 1:
			d.Throttle = Some(d.Throttle.Or(0) | m.Bit)
		case 0:
			d.Throttle = Some(d.Throttle.Or(0))
		}
		return
	}
	from, ok := d.from[m.Field]
	if ok && from != position {
		return
	}
	if d.set(m.Field, p, v) {
		d.from[m.Field] = position
	}
}

// set tells whether the value was one. Of several series of one device, as
// where an exporter adds labels for each container, the largest counts.
func (d *deviceValues) set(f Field, p place, v float64) bool {
	switch f {
	case FieldUtilization:
		return raise(&d.Utilization, ratio(v))
	case FieldMemoryUsed:
		return raise(&d.MemoryUsedBytes, whole(v, maxBytes))
	case FieldMemoryTotal:
		return raise(&d.MemoryTotalBytes, whole(v, maxBytes))
	case FieldMemoryFree:
		return raise(&d.free, within(v, 0, maxBytes))
	case FieldMemoryReserved:
		return raise(&d.reserved, within(v, 0, maxBytes))
	case FieldTemperature:
		return raise(&d.TemperatureC, within(v, minCelsius, maxCelsius))
	case FieldPower:
		return raise(&d.PowerW, within(v, 0, maxWatts))
	case FieldThrottle:
		bits, ok := whole(v, 1<<31).Get()
		if ok {
			d.Throttle = Some(d.Throttle.Or(0) | ThrottleReasons(bits))
		}
		return ok
	case FieldXID:
		return raise(&d.XID, whole(v, 1e6))
	case FieldXIDTime:
		at, ok := unixTime(v)
		code, err := strconv.ParseUint(p.xid, 10, 20)
		if !ok || err != nil || at.Before(d.XIDAt) {
			return false
		}
		d.XID, d.XIDAt = Some(code), at
		return true
	case FieldECC:
		return raise(&d.ECCUncorrected, whole(v, maxBytes))
	default:
		return true // FieldInfo: its labels have been taken
	}
}

// addNode takes a value of the whole node: counts of several series add up,
// as of several models; of shares the largest counts.
func (c *collector) addNode(m *Metric, position int, v float64) {
	if from, ok := c.node[m.Field]; ok && from != position {
		return
	}
	s, ok := &c.sample, false
	switch m.Field {
	case FieldUtilization: // of no device in particular
		ok = raise(&s.Utilization, ratio(v))
	case FieldMemoryRatio:
		ok = raise(&s.MemoryUtilization, ratio(v))
	case FieldCPU:
		ok = raise(&s.CPUUtilization, ratio(v))
	case FieldHostMemory:
		ok = raise(&s.HostMemoryUtilization, ratio(v))
	case FieldKVCache:
		ok = raise(&s.KVCache, ratio(v))
	case FieldQueue:
		ok = sum(&s.Queue, count(v))
	case FieldRunning:
		ok = sum(&s.Running, count(v))
	case FieldInFlight:
		ok = sum(&s.InFlight, count(v))
	case FieldHealthy:
		ok = both(&s.Healthy, v)
	case FieldAPIHealthy:
		ok = both(&s.APIHealthy, v)
	case FieldWebHealthy:
		ok = both(&s.WebUIHealthy, v)
	case FieldMeasuredAt:
		var at time.Time
		if at, ok = unixTime(v); ok {
			c.measured(at)
		}
	default: // texts come by another way
	}
	if ok {
		c.node[m.Field] = position
	}
}

// measured keeps the oldest of several times: a sample is as old as its
// oldest part.
func (c *collector) measured(at time.Time) {
	if c.sample.MeasuredAt.IsZero() || at.Before(c.sample.MeasuredAt) {
		c.sample.MeasuredAt = at
	}
}

// done returns the sample. MeasuredAt is zero where no value told it.
func (c *collector) done() Sample {
	s := c.sample
	for i := range c.devices {
		d := &c.devices[i]
		used, ok := d.MemoryUsedBytes.Get()
		if free, known := d.free.Get(); ok && known && !d.MemoryTotalBytes.Known() {
			d.MemoryTotalBytes = whole(float64(used)+free+d.reserved.Or(0), maxBytes)
		}
		if d.Device.says() {
			s.Devices = append(s.Devices, d.Device)
		}
	}
	slices.SortStableFunc(s.Devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Index.Or(maxDevices), b.Index.Or(maxDevices)), cmp.Compare(a.UUID, b.UUID), cmp.Compare(a.Instance, b.Instance))
	})
	return s
}

// says tells whether anything is known of the device but what it is.
func (d *Device) says() bool {
	return d.Utilization.Known() || d.MemoryUsedBytes.Known() || d.MemoryTotalBytes.Known() ||
		d.TemperatureC.Known() || d.PowerW.Known() || d.Throttle.Known() || d.XID.Known() || d.ECCUncorrected.Known()
}

// raise keeps the larger of two values and tells whether v was one.
func raise[T cmp.Ordered](o *Optional[T], v Optional[T]) bool {
	value, ok := v.Get()
	if old, known := o.Get(); ok && (!known || value > old) {
		*o = v
	}
	return ok
}

func sum(o *Optional[float64], v Optional[float64]) bool {
	value, ok := v.Get()
	if ok {
		*o = Some(o.Or(0) + value)
	}
	return ok
}

// both keeps a verdict good only while every part is.
func both(o *Optional[bool], v float64) bool {
	if math.IsNaN(v) {
		return false
	}
	*o = Some(o.Or(true) && v != 0)
	return true
}
