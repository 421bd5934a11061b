package gpupolicy

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

var (
	descUp        = desc("node_up", "Whether the node gets requests: 1 if it is up or in slow start.")
	descInFlight  = desc("in_flight", "Requests sent to the node and not yet answered in full.")
	descScore     = desc("score", "Expected time to first byte of the node's next request, in seconds; the lowest wins.")
	descPicks     = desc("picks_total", "Requests sent to the node, by why it was picked.", "reason")
	descEjections = desc("ejections_total", "How often failures ejected the node.")
	descUse       = desc("utilization_ratio", "Utilisation of the node's busiest GPU, 0 to 1.")
	descMemUsed   = desc("memory_used_bytes", "Memory in use on the node's GPUs.")
	descMemTotal  = desc("memory_total_bytes", "Memory of the node's GPUs.")
	descTemp      = desc("temperature_celsius", "Temperature of the node's hottest GPU.")
	descAge       = desc("telemetry_age_seconds", "How long ago the node's telemetry was measured.")
	descState     = desc("state", "1 for the state the node is in, 0 for the others.", "state")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_gpu_"+name, help, append([]string{"node"}, labels...), nil)
}

// collector reads the nodes when it is scraped: nothing is counted twice, and
// a node that goes takes its series with it. It is one for the process and is
// registered with the registry that Caddy makes for every configuration.
type collector struct {
	mu   sync.Mutex
	live []*Policy
}

var theCollector = new(collector)

func register(ctx caddy.Context, p *Policy) error {
	theCollector.mu.Lock()
	theCollector.live = append(theCollector.live, p)
	theCollector.mu.Unlock()
	err := ctx.GetMetricsRegistry().Register(theCollector)
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok { // by another handler of this configuration
		return nil
	}
	return err
}

func unregister(p *Policy) {
	theCollector.mu.Lock()
	defer theCollector.mu.Unlock()
	for i, other := range theCollector.live {
		if other == p {
			theCollector.live = append(theCollector.live[:i:i], theCollector.live[i+1:]...)
			return
		}
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, own := range repetitionMetrics() {
		own.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		descUp, descInFlight, descScore, descPicks, descEjections, descState,
		descQueueLength, descShed, queueWait.Desc(), descPins,
		descUse, descMemUsed, descMemTotal, descTemp, descAge,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A node of several handlers is told
// of as the newest of them sees it.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	collectQueues(ch)
	collectPins(ch)
	for _, own := range repetitionMetrics() {
		own.Collect(ch)
	}
	for _, v := range c.views(clock()) {
		e, n := v.Explanation, v.member.node
		// The registry refuses labels that are no UTF-8, with a panic.
		e.Addr = strings.ToValidUTF8(e.Addr, "?")
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{e.Addr}, labels...)...)
		}
		gauge(descUp, oneIf(e.State == balance.Up || e.State == balance.SlowStart))
		gauge(descInFlight, float64(n.InFlight()))
		gauge(descScore, e.Score)
		if t := v.member.telemetry(clock()); t != nil && t.AgeSeconds != nil {
			gauge(descAge, *t.AgeSeconds)
			if u, ok := t.GPUUtilizationPercent.Get(); ok {
				gauge(descUse, u/100)
			}
			collectDevices(t.Devices, gauge)
		}
		for _, s := range balance.States() {
			gauge(descState, oneIf(e.State == s), s.String())
		}
		for _, r := range balance.Reasons() {
			ch <- prometheus.MustNewConstMetric(descPicks, prometheus.CounterValue, float64(n.Picks(r)), e.Addr, r.String())
		}
		ch <- prometheus.MustNewConstMetric(descEjections, prometheus.CounterValue, float64(n.Ejections()), e.Addr)
	}
}

// collectDevices sums up a node's GPUs: labels for each would not be bounded.
func collectDevices(devices []gpuprobe.DeviceReport, gauge func(*prometheus.Desc, float64, ...string)) {
	var used, total, hottest gpuprobe.Optional[float64]
	for _, d := range devices {
		if v, ok := d.MemoryUsedBytes.Get(); ok {
			used = gpuprobe.Some(used.Or(0) + float64(v))
		}
		if v, ok := d.MemoryTotalBytes.Get(); ok {
			total = gpuprobe.Some(total.Or(0) + float64(v))
		}
		if v, ok := d.TemperatureC.Get(); ok {
			hottest = gpuprobe.Some(max(hottest.Or(v), v))
		}
	}
	for desc, o := range map[*prometheus.Desc]gpuprobe.Optional[float64]{descMemUsed: used, descMemTotal: total, descTemp: hottest} {
		if v, ok := o.Get(); ok {
			gauge(desc, v)
		}
	}
}

// policies returns those of all configurations, the newest last.
func (c *collector) policies() []*Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.live)
}

// view is a node as a policy sees it.
type view struct {
	balance.Explanation
	policy *Policy
	member *member
}

// views returns every node that a policy uses, as the newest of them sees it.
func (c *collector) views(now time.Duration) []view {
	var all []view
	told := make(map[string]bool)
	for _, p := range slices.Backward(c.policies()) {
		var fresh []*member
		for _, m := range p.members.all() {
			if !told[m.dial] {
				told[m.dial] = true
				fresh = append(fresh, m)
			}
		}
		all = append(all, p.views(now, fresh)...)
	}
	return all
}

func (p *Policy) views(now time.Duration, members []*member) []view {
	candidates := make([]balance.Candidate, len(members))
	for i, m := range members {
		candidates[i] = balance.Candidate{
			Node:      m.node,
			Weight:    m.weight,
			Tier:      m.tier,
			Down:      m.down.Load(),
			Avoid:     m.avoid,
			WarmSince: time.Duration(m.warmSince.Load()),
		}
	}
	explained := p.balancer.Explain(now, candidates)
	all := make([]view, len(members))
	for i, m := range members {
		all[i] = view{explained[i], p, m}
	}
	return all
}

// state is how the node stands in the policy's eyes.
func (p *Policy) state(now time.Duration, m *member) balance.State {
	return p.views(now, []*member{m})[0].State
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
