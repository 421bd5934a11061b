package nodeagent

import (
	"fmt"
	"math"
	"strings"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// For says whom an agent port speaks for.
type For string

// The services that a load balancer may stand before. ForAPI and ForWebUI
// answer for that part alone, so that a WebUI that is down takes no API out of
// service; ForOverall answers for the whole node.
const (
	ForAPI     For = "api"
	ForWebUI   For = "webui"
	ForOverall For = "overall"
)

// AgentLine is the state in HAProxy's agent-check language, with its newline:
//
//	up ready 80%
//	up drain 80%
//	down #api: connection refused
//
// "ready" takes "drain" back, and "up" takes "down" back, so that no order of
// the agent's outlives its reason. The weight is never 0 %, which HAProxy shows
// as drained. It is empty while nothing is known yet: HAProxy takes a
// connection without a line for no opinion.
func (s *State) AgentLine(f For) string {
	a := s.agent(f)
	if a.State == "" {
		return ""
	}
	words := []string{a.State}
	if a.Admin != "" {
		words = append(words, a.Admin)
	}
	if share, ok := a.WeightShare.Get(); ok {
		words = append(words, fmt.Sprintf("%.0f%%", share*100))
	}
	if a.Text != "" {
		words = append(words, "#"+a.Text)
	}
	return strings.Join(words, " ") + "\n"
}

// agent is what an agent port says for a service.
func (s *State) agent(f For) gpuprobe.Agent {
	var bad, unknown bool
	var reason string
	part := func(healthy gpuprobe.Optional[bool], why string) {
		bad, unknown = !healthy.Or(true), !healthy.Known() && why != ""
		reason = string(f) + ": " + why
	}
	switch f {
	case ForWebUI:
		part(s.Sample.WebUIHealthy, s.webReason)
	case ForOverall:
		bad, unknown, reason = s.bad, s.unknown, strings.Join(s.Notes, "; ")
	default:
		part(s.Sample.APIHealthy, s.apiReason)
	}
	switch {
	case bad:
		return gpuprobe.Agent{State: "down", Text: oneLine(reason, maxReason)}
	case unknown:
		return gpuprobe.Agent{}
	}
	a := gpuprobe.Agent{State: "up", Admin: "ready", WeightShare: gpuprobe.Some(math.Round(s.Weight*100) / 100)}
	if s.OverMemory { // full, but it answers: as little as there is
		a.WeightShare = gpuprobe.Some(minWeight)
	}
	if s.Draining {
		a.Admin = "drain"
	}
	return a
}

// maxReason is what HAProxy's own buffer holds of a description, roughly.
const maxReason = 120
