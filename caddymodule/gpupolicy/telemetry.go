package gpupolicy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
	_ "github.com/caddy-infer/caddy-infer/gpuprobe/nvml" // the kind nvml
)

// Telemetry is a way in which nodes tell of themselves.
type Telemetry struct {
	// Kind, as in `caddy gpu probe --source`; Address, in which {node.host},
	// {node.port} and {node.address} stand for those of each upstream. Without
	// an address each kind has its usual one at the node: the port of its
	// exporter, or the node itself. `orca` without an address reads the reports
	// in the node's responses.
	gpuprobe.Config

	// The GPU of a node, by the upstream's address: an index or a UUID, for
	// hosts with a node per GPU. Other nodes count all GPUs that are told of.
	Devices map[string]string `json:"devices,omitempty"`
}

const (
	// DefaultInterval is how often nodes are asked.
	DefaultInterval = time.Second
	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Hour
)

// passive reports whether the telemetry comes by itself, in responses.
func (t *Telemetry) passive() bool { return t.Kind == "orca" && t.Address == "" }

// config returns what to read for a node, with an address of its own.
func (t *Telemetry) config(dial string) gpuprobe.Config {
	c := t.Config
	host, port, err := net.SplitHostPort(dial)
	if err != nil {
		host = dial
	}
	bracketed := host
	if strings.Contains(host, ":") {
		bracketed = "[" + host + "]"
	}
	kind, _ := gpuprobe.KindOf(c.Kind)
	switch {
	case c.Address != "" || kind.Local:
	case kind.Port != 0:
		c.Address = bracketed
	default:
		c.Address = dial
	}
	c.Address = strings.NewReplacer("{node.host}", bracketed, "{node.port}", port, "{node.address}", dial).Replace(c.Address)
	return c
}

// of reports whether the telemetry is of the node: what reads this host says
// nothing of others.
func (t *Telemetry) of(dial string) bool {
	kind, _ := gpuprobe.KindOf(t.Kind)
	return !kind.Local || onThisHost(dial)
}

func onThisHost(dial string) bool {
	if strings.HasPrefix(dial, "unix") {
		return true
	}
	ip, ok := ipOf(dial)
	if !ok {
		host, _, err := net.SplitHostPort(dial)
		return err == nil && host == "localhost"
	}
	if ip.IsLoopback() {
		return true
	}
	addrs, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap() == ip
	})
}

// check finds mistakes without asking anybody: a node that is down now may
// come up.
func (t *Telemetry) check() error {
	if t.passive() {
		return nil
	}
	source, err := gpuprobe.Open(t.config("node:80"))
	if err != nil {
		return err
	}
	if err := source.Close(); err != nil {
		return err
	}
	for addr, device := range t.Devices {
		if device == "" {
			return fmt.Errorf("telemetry %s: no device for %s: give an index or a UUID", t.Kind, addr)
		}
	}
	return nil
}

// device picks the node's GPU out of a sample.
func (t *Telemetry) device(dial string, s gpuprobe.Sample) (gpuprobe.Sample, error) {
	want := ""
	for addr, device := range t.Devices {
		if canonical(addr) == dial {
			want = device
		}
	}
	if want == "" {
		return s, nil
	}
	for _, d := range s.Devices {
		if index, ok := d.Index.Get(); d.UUID == want || ok && strconv.Itoa(index) == want {
			s.Devices = []gpuprobe.Device{d}
			return s, nil
		}
	}
	return s, fmt.Errorf("telemetry %s tells of no device %s", t.Kind, want)
}

// source is one way of one node.
type source struct {
	*Telemetry
	watch *gpuprobe.Watch // nil if passive

	mu      sync.Mutex
	latest  gpuprobe.Sample
	err     error
	samples uint64
	trouble bool // that it can't be read has been logged
}

// attend begins to check the node and to read what it says, and finds its
// standings.
func (p *Policy) attend(m *member) {
	m.digests = &p.digests
	if p.queue != nil {
		m.queue = p.queue.Queue
		m.node.Audience().Join(m.queue)
	}
	p.openLine(m)
	p.checkHealth(m)
	for _, rule := range p.avoidRules() {
		m.avoid = append(m.avoid, m.node.Avoidance(rule))
	}
	for i := range p.Telemetry {
		t := &p.Telemetry[i]
		if !t.of(m.dial) {
			continue
		}
		s := &source{Telemetry: t}
		m.sources = append(m.sources, s)
		if t.passive() {
			continue
		}
		w, err := gpuprobe.NewWatch(t.config(m.dial), p.interval(), func(r gpuprobe.Reading) { p.read(m, s, r) })
		if err != nil { // only what check has not seen: the address of a dynamic upstream
			s.err = err
			p.logger.Warn("reading telemetry", zap.String("node", m.dial), zap.Error(err))
			continue
		}
		s.watch = w
	}
}

// part ends what attend began.
func (m *member) part() {
	if m.health != nil {
		m.health.Close()
	}
	for _, s := range m.sources {
		if s.watch != nil {
			s.watch.Close()
		}
	}
	m.digests.forget(m.dial)
	if m.queue != nil {
		m.node.Audience().Leave(m.queue)
	}
	m.closeLine()
}

// read hears of each try to read a source, from its poller.
func (p *Policy) read(m *member, s *source, r gpuprobe.Reading) {
	now := clock()
	err := r.Err
	if err == nil || errors.Is(err, gpuprobe.ErrNoReport) {
		err = nil
		if r.Samples != s.samples {
			s.samples = r.Samples
			err = p.hear(now, m, s, r.Sample, p.interval())
		}
	}
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	switch {
	case err != nil && !s.trouble:
		p.logger.Warn("telemetry can't be read; the node is judged by its answers alone",
			zap.String("node", m.dial), zap.String("kind", s.Kind), zap.Error(err))
	case err == nil && s.trouble:
		p.logger.Info("telemetry is read again", zap.String("node", m.dial), zap.String("kind", s.Kind))
	}
	s.trouble = err != nil
	p.avoided(now, m)
}

// hear takes in a sample.
func (p *Policy) hear(now time.Duration, m *member, s *source, sample gpuprobe.Sample, interval time.Duration) error {
	sample, err := s.device(m.dial, sample)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.latest = sample
	s.mu.Unlock()
	at := min(now, sample.MeasuredAt.Sub(epoch))
	if at <= 0 {
		return nil // hours old
	}
	m.node.Hear(now, reportOf(&sample, at, interval))
	p.digests.note(p, m.dial, sample.ModelDigest)
	return nil
}

// reportOf says what of a sample counts for choosing.
func reportOf(s *gpuprobe.Sample, at, interval time.Duration) balance.Report {
	r := balance.Report{At: at, Interval: interval}
	set := func(signal balance.Signal, o gpuprobe.Optional[float64]) {
		if v, ok := o.Get(); ok {
			r.Set(signal, v)
		}
	}
	set(balance.Utilization, s.GPUUtilization())
	set(balance.Memory, s.GPUMemoryUtilization())
	set(balance.KVCache, s.KVCache)
	set(balance.Temperature, s.TemperatureC())
	set(balance.Waiting, s.Queue)
	set(balance.InFlight, inFlight(s))
	set(balance.WeightShare, agentWeight(&s.Agent))
	if well, ok := serving(s).Get(); ok {
		unwell := 1.0
		if well {
			unwell = 0
		}
		r.Set(balance.Unwell, unwell)
	}
	return r
}

func inFlight(s *gpuprobe.Sample) gpuprobe.Optional[float64] {
	queue, queued := s.Queue.Get()
	running, known := s.Running.Get()
	if !s.InFlight.Known() && queued && known {
		return gpuprobe.Some(queue + running)
	}
	return s.InFlight
}

// haproxyMaxWeight is the largest weight an agent can ask for. Weights count
// relative to each other, so all may be shares of it.
const haproxyMaxWeight = 256

func agentWeight(a *gpuprobe.Agent) gpuprobe.Optional[float64] {
	if n, ok := a.Weight.Get(); ok {
		return gpuprobe.Some(float64(n) / haproxyMaxWeight)
	}
	return a.WeightShare
}

// serving is what the node says of its ability to serve: of the API where it
// tells that apart from its page, or what its agent ordered.
func serving(s *gpuprobe.Sample) gpuprobe.Optional[bool] {
	if share, ok := agentWeight(&s.Agent).Get(); ok && share == 0 {
		return gpuprobe.Some(false)
	}
	switch {
	case s.Agent.Admin == "drain", s.Agent.Admin == "maint":
		return gpuprobe.Some(false)
	case s.APIHealthy.Known():
		return s.APIHealthy
	case !s.Healthy.Known() && s.Agent.Admin == "ready":
		return gpuprobe.Some(true)
	}
	return s.Healthy
}

// hearResponse takes in the ORCA report of a response, if it has one.
func (p *Policy) hearResponse(now time.Duration, m *member, h http.Header) {
	for _, s := range m.sources {
		if !s.passive() {
			continue
		}
		sample, err := gpuprobe.ParseORCA(h, time.Now())
		if errors.Is(err, gpuprobe.ErrNoORCA) {
			return // an error page, another service
		}
		if err == nil {
			err = p.hear(now, m, s, sample, p.interval())
		}
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		p.avoided(now, m)
	}
}

// avoided notes when the node comes to be avoided, or no longer is.
func (p *Policy) avoided(now time.Duration, m *member) {
	var why []string
	for _, a := range m.avoid {
		if a.Holds(now) {
			why = append(why, avoidReason(a))
		}
	}
	on := len(why) > 0
	if m.avoided.Swap(on) == on {
		return
	}
	if _, drained := m.node.Drained(); drained {
		return
	}
	c := balance.Change{Node: m.node, Old: balance.Avoided, New: p.state(now, m), Reason: "its telemetry is well again", At: now}
	if on {
		c.Old, c.New, c.Reason = balance.Up, balance.Avoided, strings.Join(why, ", ")
	}
	p.note(c)
}

func (p *Policy) interval() time.Duration {
	if p.Interval == 0 {
		return DefaultInterval
	}
	return time.Duration(p.Interval)
}

// provisionTelemetry fills in placeholders of the environment and checks all
// sources.
func (p *Policy) provisionTelemetry(repl *caddy.Replacer) error {
	for i := range p.Telemetry {
		t := &p.Telemetry[i]
		t.Address = repl.ReplaceKnown(t.Address, "")
		if err := t.check(); err != nil {
			return err
		}
		p.orca = p.orca || t.passive()
	}
	return nil
}
