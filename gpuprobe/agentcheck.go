package gpuprobe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Agent is what an agent said in HAProxy's agent-check language. Missing and
// empty parts were not said and change nothing.
type Agent struct {
	// WeightShare is "75%" or "weight:75%" as 0.75: a share of the configured
	// weight.
	WeightShare Optional[float64] `json:"weight_share,omitzero"`
	// Weight is "weight:N", 0 to 256, in place of the configured one.
	Weight Optional[int] `json:"weight,omitzero"`
	// MaxConn is "maxconn:N".
	MaxConn Optional[int] `json:"maxconn,omitzero"`
	// Admin is "ready", "drain" or "maint".
	Admin string `json:"admin,omitempty"`
	// State is "up", "down", "fail" or "stopped".
	State string `json:"state,omitempty"`
	// Text describes the state: what follows a "#", else the first word that
	// is none of the language's.
	Text string `json:"text,omitempty"`
}

// maxAgentLine is more than HAProxy's own buffer shows of a description.
const maxAgentLine = 4096

// parseAgent reads one line, without its end. Words stand in any order, apart
// by spaces, tabs and commas; the last of a class wins; case does not matter
// (HAProxy's src/tcpcheck.c, agent-check).
func parseAgent(line string) (Agent, error) {
	var a Agent
	unknown := ""
	rest := line
	for {
		rest = strings.TrimLeft(rest, " \t,")
		if rest == "" {
			break
		}
		if description, ok := strings.CutPrefix(rest, "#"); ok {
			a.Text = label(strings.Trim(description, " \t"))
			break
		}
		end := strings.IndexAny(rest, " \t,")
		if end < 0 {
			end = len(rest)
		}
		word := rest[:end]
		rest = rest[end:]
		if !a.word(strings.ToLower(word)) && unknown == "" {
			unknown = word
		}
	}
	if a.Text == "" {
		a.Text = label(unknown)
	}
	if unknown != "" && a == (Agent{Text: a.Text}) {
		return Agent{}, fmt.Errorf("no word of the agent-check language in %q", label(line))
	}
	return a, nil
}

// word takes one word and tells whether it is of the language.
func (a *Agent) word(w string) bool {
	switch w {
	case "up", "down", "fail", "stopped":
		a.State = w
		return true
	case "ready", "drain", "maint":
		a.Admin = w
		return true
	}
	if number, ok := strings.CutPrefix(w, "maxconn:"); ok {
		n, err := strconv.ParseUint(number, 10, 31)
		if err == nil {
			a.MaxConn = Some(int(n))
		}
		return err == nil
	}
	weight, absolute := strings.CutPrefix(w, "weight:")
	if percents, ok := strings.CutSuffix(weight, "%"); ok {
		n, err := strconv.ParseUint(percents, 10, 16)
		if err != nil || n > 25_600 {
			return false
		}
		a.WeightShare, a.Weight = Some(float64(n)/100), Optional[int]{}
		return true
	}
	n, err := strconv.ParseUint(weight, 10, 16)
	if !absolute || err != nil || n > 256 {
		return false
	}
	a.Weight, a.WeightShare = Some(int(n)), Optional[float64]{}
	return true
}

// healthy is the state as a verdict.
func (a *Agent) healthy() Optional[bool] {
	switch a.State {
	case "":
		return Optional[bool]{}
	case "up":
		return Some(true)
	default:
		return Some(false)
	}
}

// agentSource asks an agent over TCP.
type agentSource struct{ address, send string }

func openAgent(c Config) (Source, error) {
	if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
		return nil, fmt.Errorf("address %q: want host:port", c.Address)
	}
	return &agentSource{c.Address, c.Send}, nil
}

func (s *agentSource) Read(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return Sample{}, err // names the address
	}
	defer conn.Close()
	// A connection knows deadlines, but not contexts.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if s.send != "" {
		if _, err := io.WriteString(conn, s.send); err != nil {
			return Sample{}, fmt.Errorf("asking agent %s: %w", s.address, err)
		}
	}
	line, err := readAgentLine(conn)
	if err != nil {
		return Sample{}, fmt.Errorf("reading agent %s: %w", s.address, err)
	}
	a, err := parseAgent(line)
	if err != nil {
		return Sample{}, fmt.Errorf("reading agent %s: %w", s.address, err)
	}
	return Sample{MeasuredAt: time.Now(), Agent: a, Healthy: a.healthy()}, nil
}

func (s *agentSource) Close() error { return nil }

// readAgentLine reads to the first CR or LF. As in HAProxy, a line that ends
// without is not believed: its last word may be cut.
func readAgentLine(r io.Reader) (string, error) {
	buf := make([]byte, 0, maxAgentLine)
	for len(buf) < cap(buf) {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := strings.IndexAny(string(buf), "\r\n"); i >= 0 {
			return string(buf[:i]), nil
		}
		if errors.Is(err, io.EOF) {
			return "", errors.New("the line does not end: a newline is missing")
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("a line of more than %d bytes", maxAgentLine)
}
