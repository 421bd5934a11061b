//go:build linux

package steady

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// judged are ten minutes in which memory, in MiB, was as given.
func judged(memory func(at time.Duration) float64) ([]Resource, []string) {
	const duration = 10 * time.Minute
	random := rand.New(rand.NewPCG(1, 1))
	var samples []Sample
	for at := time.Duration(0); at < duration; at += Every {
		peak := 0.0
		if random.IntN(20) == 0 {
			peak = 15
		}
		samples = append(samples, Sample{At: at, Anonymous: memory(at) + random.NormFloat64() + peak, Heap: 5, Goroutines: 60, Files: 30})
	}
	return Judge(duration, samples, Sample{}, Sample{}, Allowed{6, 1.5, 50, 30})
}

func TestGrowthIsToldFromNoiseAndWarmUp(t *testing.T) {
	for name, memory := range map[string]func(time.Duration) float64{
		"flat":           func(time.Duration) float64 { return 30 },
		"warming up":     func(at time.Duration) float64 { return 30 - 20*max(0, 1-at.Seconds()/90) },
		"falling":        func(at time.Duration) float64 { return 60 - 30*at.Minutes()/10 },
		"a step in time": func(at time.Duration) float64 { return 30 + 4*float64(at/(5*time.Minute)) },
	} {
		if _, violations := judged(memory); len(violations) > 0 {
			t.Errorf("%s: %v", name, violations)
		}
	}
	all, violations := judged(func(at time.Duration) float64 { return 30 + at.Minutes() })
	if len(violations) != 1 || !strings.Contains(violations[0], "anonymous memory grew by ") {
		t.Errorf("1 MiB a minute: %v", violations)
	}
	if table := Table(all); !strings.Contains(table, "| anonymous memory, MiB |") || !strings.Contains(table, "| goroutines | 0.0 | 60.0 |") {
		t.Error(table)
	}
}

func TestFieldsOfProcAndPprof(t *testing.T) {
	if v, err := field("Name:\tcaddy\nRssAnon:\t   12345 kB\n", "RssAnon:"); v != 12345 || err != nil {
		t.Error(v, err)
	}
	if v, err := field("heap profile: 1: 2\n# HeapAlloc = 4711\n", "# HeapAlloc ="); v != 4711 || err != nil {
		t.Error(v, err)
	}
	for _, text := range []string{"", "RssAnon:", "RssAnon: x"} {
		if _, err := field(text, "RssAnon:"); err == nil {
			t.Errorf("%q is no error", text)
		}
	}
}
