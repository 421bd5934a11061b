package nvml

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever the build and the host: GPUs, or one sentence that says what to do.
func TestWithoutADriverOrCgoOneSentenceSaysSo(t *testing.T) {
	source, err := gpuprobe.Open(gpuprobe.Config{Kind: "nvml"})
	if err == nil {
		var s gpuprobe.Sample
		if s, err = source.Read(t.Context()); err == nil && len(s.Devices) == 0 {
			t.Error("a driver without a GPU")
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
	}
	if err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "NVML")) {
		t.Errorf("error %q", err)
	}
}
