package nodeagent

import (
	"context"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// host measures the machine, not the container. It is used by one goroutine.
type host struct {
	busy, total float64 // seconds of all processors since they started
	cpu, memory gpuprobe.Optional[float64]
}

// measure updates the shares; what cannot be read stays unknown.
func (h *host) measure(ctx context.Context) {
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil && m.Total > 0 {
		h.memory = gpuprobe.Some(min(max(m.UsedPercent/100, 0), 1))
	}
	times, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(times) != 1 {
		return
	}
	h.processors(times[0])
}

// processors takes the processors' times. Linux counts those of guests among
// the users' already, so they are not added.
func (h *host) processors(t cpu.TimesStat) {
	total := t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal + t.Idle + t.Iowait
	busy := total - t.Idle - t.Iowait
	if all := total - h.total; h.total > 0 && all > 0 {
		h.cpu = gpuprobe.Some(min(max((busy-h.busy)/all, 0), 1))
	}
	h.busy, h.total = busy, total
}

func (h *host) into(s *State) {
	if h.cpu.Known() {
		s.Sample.CPUUtilization = h.cpu
	}
	if h.memory.Known() {
		s.Sample.HostMemoryUtilization = h.memory
	}
}
