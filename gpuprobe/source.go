package gpuprobe

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Source reads one node. Read is called by one goroutine at a time, and Close
// after the last Read.
type Source interface {
	// Read returns a new sample, or an error that names the address. It ends
	// when the context does.
	Read(ctx context.Context) (Sample, error)
	// Close frees what the source holds: connections, a child process.
	Close() error
}

// Config names a source.
type Config struct {
	// Kind is one of Kinds.
	Kind string `json:"kind"`
	// Address is where the node answers: a URL, or host:port with the kind's
	// own path and, where it has one, port; for push the name by which the
	// node's reports come. Sources of this host need none; for nvidia_smi it is
	// the path of the program.
	Address string `json:"address,omitempty"`
	// Mapping is for the kinds prometheus and json: field name to metric or
	// key, with an optional factor ("my_gpu_percent{gpu=\"0\"} * 0.01").
	Mapping map[string]string `json:"mapping,omitempty"`
	// Send is what agent_check sends after connecting (HAProxy's agent-send).
	Send string `json:"send,omitempty"`
	// Interval is how often the reader means to read, for sources that sample
	// by themselves. 0 means 1 s.
	Interval time.Duration `json:"-"`
}

// Kind is a way of reading nodes.
type Kind struct {
	Name string
	// Summary says in a few words what it reads.
	Summary string
	// Local kinds read this host and need no address.
	Local bool
	// Port is the usual port, 0 without one.
	Port int
	// Open makes a source and checks its configuration, without connecting.
	Open func(Config) (Source, error)
}

var (
	kindsMu sync.RWMutex
	kinds   = map[string]Kind{}
)

// Register adds a kind, for packages like gpuprobe/nvml that only some builds
// can have. It panics on a name that is taken, as it is called by init.
func Register(k Kind) {
	kindsMu.Lock()
	defer kindsMu.Unlock()
	if _, ok := kinds[k.Name]; ok || k.Name == "" || k.Open == nil {
		panic("gpuprobe: kind " + k.Name + " is incomplete or registered twice")
	}
	kinds[k.Name] = k
}

// Kinds returns all kinds in alphabetical order.
func Kinds() []Kind {
	kindsMu.RLock()
	defer kindsMu.RUnlock()
	return slices.SortedFunc(maps.Values(kinds), func(a, b Kind) int { return strings.Compare(a.Name, b.Name) })
}

// KindOf returns the kind of a name.
func KindOf(name string) (Kind, bool) {
	kindsMu.RLock()
	defer kindsMu.RUnlock()
	k, ok := kinds[name]
	return k, ok
}

// Open makes the source that the configuration names. It checks the
// configuration and does not connect: a node that is down now may come up.
func Open(c Config) (Source, error) {
	k, ok := KindOf(c.Kind)
	if !ok {
		known := Kinds()
		names := make([]string, 0, len(known))
		for _, k := range known {
			names = append(names, k.Name)
		}
		return nil, fmt.Errorf("unknown telemetry kind %q: use one of %s", c.Kind, strings.Join(names, ", "))
	}
	if c.Address == "" && !k.Local {
		return nil, fmt.Errorf("telemetry %s: give the address that it reads", c.Kind)
	}
	if c.Kind != "prometheus" && c.Kind != "json" && len(c.Mapping) > 0 {
		return nil, fmt.Errorf("telemetry %s has its own mapping: only prometheus and json take one", c.Kind)
	}
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	s, err := k.Open(c)
	if err != nil {
		return nil, fmt.Errorf("telemetry %s: %w", c.Kind, err)
	}
	return s, nil
}
