package simnode

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// Memory of the simulated GPU, in bytes.
const (
	memoryTotal    = 24 << 30
	memoryModel    = 4 << 30
	memoryTenant   = 8 << 30
	memoryRequest  = 48 << 20
	watts, degrees = 300, 35 // at full load; at rest
)

// sample is what the node's agent would measure. It is another process than
// the model server: it answers while that hangs or fails.
func (n *Node) sample() gpuprobe.Sample {
	s := n.State()
	used := uint64(memoryModel + min(s.InFlight, 200)*memoryRequest)
	if s.CoTenant > 0 {
		used += memoryTenant
	}
	healthy := s.Mode == OK
	return gpuprobe.Sample{
		MeasuredAt: time.Now(),
		Devices: []gpuprobe.Device{{
			UUID: "GPU-" + n.config.Name, Name: "Simulated GPU", Index: gpuprobe.Some(0),
			Utilization:     gpuprobe.Some(s.Utilization),
			MemoryUsedBytes: gpuprobe.Some(used), MemoryTotalBytes: gpuprobe.Some[uint64](memoryTotal),
			TemperatureC: gpuprobe.Some(degrees + 40*s.Utilization),
			PowerW:       gpuprobe.Some(50 + (watts-50)*s.Utilization),
		}},
		Queue: gpuprobe.Some(float64(s.Waiting)), Running: gpuprobe.Some(float64(s.Running)),
		InFlight: gpuprobe.Some(float64(s.InFlight)),
		Healthy:  gpuprobe.Some(healthy), APIHealthy: gpuprobe.Some(healthy),
		Model: "simulated",
	}
}

func (n *Node) status(w http.ResponseWriter, r *http.Request) {
	if !sleep(r.Context(), n.config.Distance) {
		return
	}
	s := n.sample()
	reply(w, http.StatusOK, gpuprobe.NewReport(&s))
}

// metrics is a page of dcgm-exporter, which rounds utilisation to percents.
func (n *Node) metrics(w http.ResponseWriter, r *http.Request) {
	if !sleep(r.Context(), n.config.Distance) {
		return
	}
	s := n.sample()
	d := &s.Devices[0]
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	const mib = 1 << 20
	used := float64(d.MemoryUsedBytes.Or(0))
	for _, m := range []struct {
		name, help string
		value      float64
	}{
		{"DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", 100 * d.Utilization.Or(0)},
		{"DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", used / mib},
		{"DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", (memoryTotal - used) / mib},
		{"DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", d.TemperatureC.Or(0)},
		{"DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", d.PowerW.Or(0)},
	} {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n%s{gpu=\"0\",UUID=%q,device=\"nvidia0\",modelName=%q} %.0f\n",
			m.name, m.help, m.name, m.name, d.UUID, d.Name, m.value)
	}
}

// serveAgent answers HAProxy's agent-check: one line for each connection.
func (n *Node) serveAgent(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprintln(conn, n.agentLine())
		_ = conn.Close()
	}
}

// agentLine never says 0 %, which HAProxy takes for an order to drain.
func (n *Node) agentLine() string {
	s := n.State()
	free := 1 - s.Utilization
	if n.config.AgentReports == "share" {
		free = 1 - s.CoTenant
	}
	return fmt.Sprintf("%d%%", max(1, int(100*free+0.5)))
}
