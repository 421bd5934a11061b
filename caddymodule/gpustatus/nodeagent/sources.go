package nodeagent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	_ "github.com/caddy-infer/caddy-infer/gpuprobe/nvml" // the kind nvml
)

// hostGPUs read this host's GPUs, the best first.
var hostGPUs = []gpuprobe.Config{{Kind: "nvml"}, {Kind: "nvidia_smi"}}

// What is too old to be told. An exporter may measure each 30 s; a source that
// fails is believed for a few readings more.
const (
	maxAge     = time.Minute
	failedAge  = 5 * time.Second
	maxSources = 16
)

// sources are the watched telemetry.
type sources struct {
	interval time.Duration
	configs  []gpuprobe.Config
	// host is set where the configs are alternatives: each is watched only
	// while the one before it fails.
	host bool
	// absent are the host's sources that this build does not have, and why.
	absent []string

	mu      sync.Mutex
	closed  bool
	changed func()
	watches []*gpuprobe.Watch // by position, nil while not needed
}

func openSources(o Options) (*sources, error) {
	s := &sources{interval: o.Interval}
	configs := o.Telemetry
	if len(configs) == 0 && !o.NoGPU {
		configs, s.host = hostGPUs, true
	}
	if len(configs) > maxSources {
		return nil, fmt.Errorf("%d telemetry sources: give at most %d", len(configs), maxSources)
	}
	for _, c := range configs {
		// What is wrong with a configuration shows without reading anything.
		source, err := gpuprobe.Open(c)
		if err == nil {
			err = source.Close()
		}
		switch {
		case err == nil:
			s.configs = append(s.configs, c)
		case s.host: // NVML needs cgo
			s.absent = append(s.absent, err.Error())
		default:
			return nil, err
		}
	}
	s.watches = make([]*gpuprobe.Watch, len(s.configs))
	return s, nil
}

// start watches all sources, or the first of the host's.
func (s *sources) start(changed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = changed
	for i := range s.configs {
		if s.watch(i); s.host {
			return
		}
	}
}

// watch begins with a source. mu is held.
func (s *sources) watch(i int) {
	if s.closed || s.watches[i] != nil {
		return
	}
	// It was opened once already, so it opens.
	s.watches[i], _ = gpuprobe.NewWatch(s.configs[i], s.interval, func(gpuprobe.Reading) { s.changed() })
}

func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, w := range s.watches {
		if w != nil {
			w.Close()
		}
	}
}

// into merges the latest readings into a state.
func (s *sources) into(state *State, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host {
		s.hostInto(state, now)
		return
	}
	for i, w := range s.watches {
		if w == nil {
			continue
		}
		r := w.Latest()
		if why := unfit(r, now, s.interval); why != "" {
			state.note("%s: %s", s.configs[i].Kind, why)
			continue
		}
		gpuprobe.Merge(&state.Sample, &r.Sample)
	}
}

// hostInto takes the first source of the host that works, and watches the next
// where it does not. mu is held.
func (s *sources) hostInto(state *State, now time.Time) {
	whys := slices.Clone(s.absent)
	for i := range s.configs {
		s.watch(i)
		if s.watches[i] == nil {
			return
		}
		r := s.watches[i].Latest()
		why := unfit(r, now, s.interval)
		if why == "" {
			gpuprobe.Merge(&state.Sample, &r.Sample)
			for j := i + 1; j < len(s.watches); j++ {
				if s.watches[j] != nil {
					s.watches[j].Close()
					s.watches[j] = nil
				}
			}
			return
		}
		whys = append(whys, s.configs[i].Kind+": "+why)
		if r.TriedAt.IsZero() {
			break // it may yet work
		}
	}
	state.note("no GPU to read: %s", strings.Join(whys, "; "))
}

// unfit is why a reading cannot be used, empty if it can.
func unfit(r gpuprobe.Reading, now time.Time, interval time.Duration) string {
	age := now.Sub(r.Sample.MeasuredAt)
	switch {
	case r.Samples == 0 && r.Err != nil:
		return r.Err.Error()
	case r.Samples == 0:
		return "not read yet"
	case r.Err != nil && age > max(failedAge, 3*interval):
		return r.Err.Error()
	case age > max(maxAge, 3*interval):
		return fmt.Sprintf("measured %s ago", age.Round(time.Second))
	}
	return ""
}
