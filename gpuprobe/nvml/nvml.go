// Package nvml adds the telemetry kind nvml: this host's GPUs as the driver's
// own library tells of them. It needs cgo; without it the kind is there, and
// says so. Import it for its effect.
package nvml

import "github.com/caddy-infer/caddy-infer/gpuprobe"

func init() {
	gpuprobe.Register(gpuprobe.Kind{
		Name:    "nvml",
		Summary: "this host's GPUs, by NVIDIA's driver library",
		Local:   true,
		Open:    open,
	})
}
