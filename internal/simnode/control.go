package simnode

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
)

// Mode is what a node does to requests.
type Mode string

const (
	// OK answers.
	OK Mode = "ok"
	// Hang accepts requests and health checks and never answers.
	Hang Mode = "hang"
	// Fail answers both with Status at once.
	Fail Mode = "fail"
	// Refuse closes the port and every connection, telemetry included.
	Refuse Mode = "refuse"
	// Reset breaks each answer off in the middle.
	Reset Mode = "reset"
)

// Settings are what can be ordered of a running node. They are the JSON of its
// control port: GET / answers a State, and PUT / with any of these keys changes
// them before it is answered.
type Settings struct {
	Mode Mode `json:"mode"`
	// Status is what Fail answers.
	Status int `json:"status"`
	// CoTenant is the share of the GPU, 0 to below 1, that another process
	// takes: service takes 1/(1-CoTenant) as long.
	CoTenant float64 `json:"co_tenant"`
	// Slowdown is how many times longer service takes for other reasons.
	Slowdown float64 `json:"slowdown"`
}

func (s Settings) withDefaults() Settings {
	if s.Mode == "" {
		s.Mode = OK
	}
	if s.Status == 0 {
		s.Status = http.StatusServiceUnavailable
	}
	if s.Slowdown == 0 {
		s.Slowdown = 1
	}
	return s
}

func (s Settings) check() error {
	switch s.Mode {
	case OK, Hang, Fail, Refuse, Reset:
	default:
		return fmt.Errorf("unknown mode %q", s.Mode)
	}
	switch {
	case s.Status < 400 || s.Status > 599:
		return fmt.Errorf("status %d is no failure", s.Status)
	case !(s.CoTenant >= 0 && s.CoTenant <= 0.99):
		return fmt.Errorf("co_tenant %g: want a share from 0 to 0.99", s.CoTenant)
	case !(s.Slowdown >= 0.01 && s.Slowdown <= 1000):
		return fmt.Errorf("slowdown %g: want a factor from 0.01 to 1000", s.Slowdown)
	}
	return nil
}

// State is what the control port tells.
type State struct {
	Settings
	Cold     bool `json:"cold"`
	InFlight int  `json:"in_flight"` // at the node, in whatever way
	Running  int  `json:"running"`   // on the GPU
	Waiting  int  `json:"waiting"`   // for the GPU
	Received int  `json:"received"`  // requests for /predict since the start
	Answered int  `json:"answered"`  // those that were answered well
	// Utilization is the GPU's over the last second, 0 to 1.
	Utilization float64 `json:"utilization"`
}

func (n *Node) current() Settings {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settings
}

// State tells what the node does.
func (n *Node) State() State {
	s := State{InFlight: int(n.inFlight.Load()), Received: int(n.received.Load()), Answered: int(n.answered.Load())}
	s.Running, s.Waiting, s.Utilization = n.engine.load()
	n.mu.Lock()
	defer n.mu.Unlock()
	s.Settings, s.Cold = n.settings, n.cold
	return s
}

// Set orders something of the node.
func (n *Node) Set(s Settings) error {
	s = s.withDefaults()
	if err := s.check(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	if s.Mode == Refuse && n.server != nil {
		if err := n.server.Close(); err != nil {
			return err
		}
		n.server = nil
	}
	if s.Mode != Refuse && n.server == nil {
		l, err := net.Listen("tcp", n.address)
		if err != nil {
			return fmt.Errorf("listening again: %w", err)
		}
		n.serve(l)
	}
	n.settings = s
	n.applyLocked()
	return nil
}

// applyLocked tells the engine how fast it is. n.mu is held.
func (n *Node) applyLocked() {
	slowdown := n.settings.Slowdown
	if n.cold {
		slowdown *= n.config.ColdFactor
	}
	n.engine.set(slowdown, n.settings.CoTenant)
}

func (n *Node) serveControl(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		s := n.current()
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&s)
		if err == nil {
			err = n.Set(s)
		}
		if err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
	}
	reply(w, http.StatusOK, n.State())
}
