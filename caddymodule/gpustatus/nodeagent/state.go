package nodeagent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/inference"
)

// State is what an agent knows of its node at a moment. It is never changed.
type State struct {
	// Sample has everything that is known, with the verdicts Healthy (all of
	// it), APIHealthy and WebUIHealthy.
	Sample gpuprobe.Sample
	// Draining is set while the operator wants no new requests here.
	Draining bool
	// OverMemory is set while more GPU memory is used than the limit allows.
	OverMemory bool
	// Weight is the share of its usual load that the node should get, above 0
	// to 1, by the smoothed utilisation of its GPUs.
	Weight float64
	// Notes say what could not be read, and why the node is not healthy.
	Notes []string

	bad                  bool   // something is known not to be well
	unknown              bool   // something has not answered yet
	apiReason, webReason string // why they are not healthy
}

// Bounds of the notes.
const (
	maxNotes    = 16
	maxNoteSize = 300
)

// note adds what somebody should know. It is one line of printable text: some
// of it is what a program of the node's said.
func (s *State) note(format string, args ...any) {
	if len(s.Notes) == maxNotes {
		return
	}
	text := oneLine(fmt.Sprintf(format, args...), maxNoteSize)
	if !slices.Contains(s.Notes, text) {
		s.Notes = append(s.Notes, text)
	}
}

// oneLine cuts a text to at most size bytes of printable UTF-8.
func oneLine(text string, size int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > size {
		text = strings.ToValidUTF8(text[:size-len("…")], "") + "…"
	}
	return text
}

// Report is the JSON of the node: gpuprobe's, and two keys more.
type Report struct {
	gpuprobe.Report
	Draining bool     `json:"draining,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// Report returns the state in the words of the JSON.
func (s *State) Report() Report {
	return Report{gpuprobe.NewReport(&s.Sample), s.Draining, s.Notes}
}

// Healthy tells whether all is well.
func (s *State) Healthy() bool { return s.Sample.Healthy.Or(false) }

// state puts together what has been read.
func (a *Agent) state(now time.Time) *State {
	s := &State{}
	a.sources.into(s, now)
	a.host.into(s)
	a.models(s)
	if s.Sample.MeasuredAt.IsZero() {
		s.Sample.MeasuredAt = now
	}
	api, apiKnown := a.api.into(s, "api", &s.Sample.APIHealthy, &s.apiReason)
	webui, webKnown := a.webui.into(s, "webui", &s.Sample.WebUIHealthy, &s.webReason)
	s.unknown = !apiKnown || !webKnown
	s.bad = !api || !webui
	if !s.Sample.Healthy.Or(true) {
		s.bad = true
		s.note("telemetry says that the node is not healthy")
	}
	if used, ok := s.Sample.GPUMemoryUtilization().Get(); ok && a.opts.MemoryLimit > 0 && used >= a.opts.MemoryLimit {
		s.OverMemory, s.bad = true, true
		s.note("gpu memory: %.0f %% used, the limit is %.0f %%", used*100, a.opts.MemoryLimit*100)
	}
	if a.opts.DrainFile != "" {
		if _, err := os.Stat(a.opts.DrainFile); err == nil {
			s.Draining = true
			s.note("draining: %s is there", a.opts.DrainFile)
		}
	}
	s.Sample.Healthy = gpuprobe.Some(!s.bad && !s.unknown && !s.Draining)
	s.Weight = a.weight.observe(now, s.Sample.GPUUtilization())
	s.Sample.Agent = s.agent(ForAPI)
	return s
}

// modelDigest identifies the model of this process that is served: that of the
// configured files, unless others answer under its name meanwhile.
func (a *Agent) modelDigest() string {
	if a.opts.Digest == "" {
		return ""
	}
	for _, s := range inference.Servings() {
		if s.Name == a.opts.Model {
			return s.Info.Digest
		}
	}
	return a.opts.Digest
}

// models adds the models of this process, and what is served by another.
func (a *Agent) models(s *State) {
	var inFlight, queued, found int
	var last inference.Load
	digest := a.modelDigest()
	for _, l := range inference.Loads() {
		if digest != "" && l.Digest != digest {
			continue
		}
		inFlight, queued = inFlight+l.InFlight, queued+l.Queued
		if found == 0 || l.Digest != last.Digest {
			found++
		}
		last = l
	}
	if found > 0 {
		s.Sample.InFlight = gpuprobe.Some(s.Sample.InFlight.Or(0) + float64(inFlight))
		s.Sample.Queue = gpuprobe.Some(s.Sample.Queue.Or(0) + float64(queued))
	}
	switch {
	case digest != "":
		s.Sample.Model, s.Sample.ModelDigest = a.opts.Model, digest
		if found == 0 {
			s.note("model: no handler of this process uses %s", a.opts.Model)
		}
	case a.digest != nil:
		s.Sample.Model = a.opts.Model
		if s.Sample.Model == "" {
			s.Sample.Model = filepath.Base(a.opts.ModelPath)
		}
		var why string
		if s.Sample.ModelDigest, why = a.digest.latest(); why != "" {
			s.note("model_path: %s", why)
		}
	case a.opts.Model != "":
		s.Sample.Model = a.opts.Model
	case found == 1 && s.Sample.Model == "" && s.Sample.ModelDigest == "":
		s.Sample.Model, s.Sample.ModelDigest = last.Ref, last.Digest
	}
}
