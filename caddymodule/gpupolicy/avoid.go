package gpupolicy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/internal/telemetryfile"
)

// avoidable are the signals that avoid_when knows.
var avoidable = map[string]struct {
	signal  balance.Signal
	percent bool // a share, written in percents
	most    float64
	unit    string
}{
	"gpu_memory":  {balance.Memory, true, 1, ""},
	"kv_cache":    {balance.KVCache, true, 1, ""},
	"queue":       {balance.Waiting, false, 1e6, " requests"},
	"temperature": {balance.Temperature, false, 200, " °C"},
}

// avoidNames are their names, sorted.
var avoidNames = []string{"gpu_memory", "kv_cache", "queue", "temperature"}

// avoidRules are the rules of the configuration, and that a node which says
// that it can't serve is believed.
func (p *Policy) avoidRules() []balance.AvoidRule {
	var rules []balance.AvoidRule
	for _, name := range avoidNames {
		if limit, ok := p.AvoidWhen[name]; ok {
			rules = append(rules, balance.AvoidRule{Signal: avoidable[name].signal, Limit: limit})
		}
	}
	if len(p.Telemetry) > 0 {
		rules = append(rules, balance.AvoidRule{Signal: balance.Unwell, Limit: 1})
	}
	return rules
}

func (p *Policy) checkAvoid() error {
	for name, limit := range p.AvoidWhen {
		if err := checkLimit(name, limit); err != nil {
			return err
		}
	}
	if len(p.AvoidWhen) > 0 && len(p.Telemetry) == 0 {
		return fmt.Errorf("avoid_when: nothing tells of the nodes: add telemetry")
	}
	return nil
}

func checkLimit(name string, limit float64) error {
	a, ok := avoidable[name]
	switch {
	case !ok:
		return fmt.Errorf("avoid_when: unknown signal %q: use one of %s", name, strings.Join(avoidNames, ", "))
	case !(limit > 0 && limit <= a.most):
		return fmt.Errorf("avoid_when %s: %g is not above 0 and up to %g", name, limit, a.most)
	}
	return nil
}

// avoidReason says why a node is avoided: "gpu_memory 91% (limit 85%)".
func avoidReason(a *balance.Avoidance) string {
	rule := a.Rule()
	for _, name := range avoidNames {
		if s := avoidable[name]; s.signal == rule.Signal {
			if s.percent {
				return fmt.Sprintf("%s %.0f%% (limit %.0f%%)", name, 100*a.Value(), 100*rule.Limit)
			}
			return fmt.Sprintf("%s %.4g%s (limit %.4g)", name, a.Value(), s.unit, rule.Limit)
		}
	}
	return "the node says that it can't serve"
}

// parseTelemetry reads the telemetry option, and which GPU a node has.
func (p *Policy) parseTelemetry(d *caddyfile.Dispenser, args []string) error {
	var t Telemetry
	config, err := telemetryfile.Unmarshal(d, args, "map, send and device", func(option string, args []string) (known bool, err error) {
		if option != "device" {
			return false, nil
		}
		return true, t.parseDevice(d, args)
	})
	if err != nil {
		return err
	}
	t.Config = config
	if !strings.Contains(t.Address, "{env.") {
		if err := t.check(); err != nil {
			return d.WrapErr(err)
		}
	}
	p.Telemetry = append(p.Telemetry, t)
	return nil
}

func (t *Telemetry) parseDevice(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 2 {
		return d.Err("device: want the upstream's address and an index or a UUID")
	}
	if _, ok := t.Devices[args[0]]; ok {
		return d.Errf("device of %s: given twice", args[0])
	}
	if t.Devices == nil {
		t.Devices = make(map[string]string)
	}
	t.Devices[args[0]] = args[1]
	notePlace(d, deviceRule(args[0]))
	return nil
}

func deviceRule(addr string) string { return "device " + addr }

func (p *Policy) parseAvoid(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 2 {
		return d.ArgErr()
	}
	name := args[0]
	if _, ok := p.AvoidWhen[name]; ok {
		return d.Errf("avoid_when %s: given twice", name)
	}
	signal, known := avoidable[name]
	if !known {
		return d.Errf("avoid_when: unknown signal '%s': use one of %s", name, strings.Join(avoidNames, ", "))
	}
	var limit float64
	var err error
	switch name {
	case "temperature":
		limit, err = strconv.ParseFloat(strings.TrimRight(args[1], "C°"), 64)
	default:
		if signal.percent {
			limit, err = parsePercent(args[1])
		} else {
			limit, err = strconv.ParseFloat(args[1], 64)
		}
	}
	if err == nil {
		err = checkLimit(name, limit)
	}
	if err != nil {
		return d.Errf("avoid_when %s: '%s' is no limit: want %s", name, args[1],
			map[bool]string{true: "a percentage such as 85%", false: "a number"}[signal.percent])
	}
	if p.AvoidWhen == nil {
		p.AvoidWhen = make(map[string]float64)
	}
	p.AvoidWhen[name] = limit
	return nil
}

// parsePercent reads "85%" as 0.85.
func parsePercent(s string) (float64, error) {
	number, ok := strings.CutSuffix(s, "%")
	if !ok {
		return 0, fmt.Errorf("'%s' is not a percentage", s)
	}
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(percent) {
		return 0, fmt.Errorf("'%s' is not a percentage", s)
	}
	return percent / 100, nil
}

// checkDevices finds devices of addresses that no upstream has.
func (p *Policy) checkDevices(dials []string) (unmet []string) {
	for _, t := range p.Telemetry {
		for addr := range t.Devices {
			if !slices.Contains(dials, canonical(addr)) {
				unmet = append(unmet, withPlace(deviceRule(addr)))
			}
		}
	}
	return unmet
}
