package gpuprobe

import (
	"encoding/json"
	"fmt"
)

// ThrottleReasons is a set of reasons for which a GPU's clocks are below their
// maximum. The bits are NVML's nvmlClocksEventReasons, which DCGM and
// nvidia-smi print as they are.
type ThrottleReasons uint64

// The reasons that NVML names.
const (
	ThrottleIdle ThrottleReasons = 1 << iota
	ThrottleApplicationClocks
	ThrottlePowerCap
	ThrottleHardware
	ThrottleSyncBoost
	ThrottleThermalSoftware
	ThrottleThermalHardware
	ThrottlePowerBrake
	ThrottleDisplayClocks
)

// throttleNames are those of nvidia-smi's query fields, by bit.
var throttleNames = [...]string{
	"gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost",
	"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clock_setting",
}

// Slowed tells whether the hardware or its heat holds the GPU back: the reasons
// that make a node slower than its neighbours, unlike idling or a power cap
// that all of a kind have.
func (r ThrottleReasons) Slowed() bool {
	return r&(ThrottleHardware|ThrottleThermalSoftware|ThrottleThermalHardware|ThrottlePowerBrake) != 0
}

// Names returns the reasons in the order of their bits, never nil.
func (r ThrottleReasons) Names() []string {
	names := []string{}
	for bit, name := range throttleNames {
		if r&(1<<bit) != 0 {
			names = append(names, name)
		}
	}
	if unknown := r >> len(throttleNames); unknown != 0 {
		names = append(names, fmt.Sprintf("0x%x", uint64(unknown<<len(throttleNames))))
	}
	return names
}

// MarshalJSON writes the names.
func (r ThrottleReasons) MarshalJSON() ([]byte, error) { return json.Marshal(r.Names()) }

// UnmarshalJSON reads names. Those it does not know are left out: a newer
// agent may know more.
func (r *ThrottleReasons) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	*r = 0
	for _, name := range names {
		for bit, known := range throttleNames {
			if name == known {
				*r |= 1 << bit
			}
		}
	}
	return nil
}
