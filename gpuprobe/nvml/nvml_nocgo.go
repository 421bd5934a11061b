//go:build !cgo || !linux

package nvml

import (
	"errors"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func open(gpuprobe.Config) (gpuprobe.Source, error) {
	return nil, errors.New("this program was built without NVML: build it on Linux with CGO_ENABLED=1, or use nvidia_smi")
}
