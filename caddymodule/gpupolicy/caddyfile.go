package gpupolicy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// ErrUnknownOption is the error of an option that the policy does not have.
var ErrUnknownOption = errors.New("unrecognized option")

// UnmarshalCaddyfile sets up the policy from Caddyfile tokens:
//
//	lb_policy gpu {
//		telemetry  <kind> [<address>] {
//			map    <field> <metric>
//			send   <text>
//			device <upstream> <index|uuid>
//		}
//		interval   <duration>
//		shed_at    <percent>%|off
//		avoid_when gpu_memory|kv_cache <percent>%
//		avoid_when queue <requests>
//		avoid_when temperature <celsius>
//		max_in_flight <number>|auto|off
//		queue      <requests> <duration> [<priority>] | off
//		health     <path> {
//			interval <duration>
//			timeout  <duration>
//			rise     <number>
//			fall     <number>
//			status   <code|class...>
//			body     <regexp>
//			json     <key> [<value>]
//			header   <field> <value>
//			start    up|down
//		}
//		sticky     cookie <name> {
//			secret    <text>
//			path      <path>
//			same_site lax|strict|none
//		}
//		sticky     header <name>
//		weight     <address> <number>
//		tier       <number> <address|cidr...>
//		retry_budget <percent>% [<min>] | off
//		hedge      on|off
//		slow_start <duration>|off
//		eject      <number> failures | off
//		spill      <percent>%
//	}
//
// telemetry, avoid_when, weight and tier may be repeated. All options have
// defaults. In an address of telemetry, {node.host}, {node.port} and
// {node.address} stand for those of each upstream.
func (p *Policy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume policy name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		option := d.Val()
		args := d.RemainingArgs()
		var err error
		switch option {
		case "telemetry":
			err = p.parseTelemetry(d, args)
		case "interval":
			err = p.parseInterval(d, args)
		case "shed_at":
			err = p.parseShedAt(d, args)
		case "avoid_when":
			err = p.parseAvoid(d, args)
		case "max_in_flight":
			err = p.parseMaxInFlight(d, args)
		case "queue":
			err = p.parseQueue(d, args)
		case "retry_budget":
			err = p.parseRetryBudget(d, args)
		case "hedge":
			err = p.parseHedge(d, args)
		case "health":
			err = p.parseHealth(d, args)
		case "sticky":
			err = p.parseSticky(d, args)
		case "weight":
			err = p.parseWeight(d, args)
		case "tier":
			err = p.parseTier(d, args)
		case "slow_start":
			err = p.parseSlowStart(d, args)
		case "eject":
			err = p.parseEject(d, args)
		case "spill":
			err = p.parseSpill(d, args)
		default:
			err = d.WrapErr(fmt.Errorf("%w '%s'", ErrUnknownOption, option))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) parseInterval(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.ArgErr()
	}
	dur, err := caddy.ParseDuration(args[0])
	if err != nil || dur < minInterval || dur > maxInterval {
		return d.Errf("interval: '%s' is not a duration from %v to %v", args[0], minInterval, maxInterval)
	}
	p.Interval = caddy.Duration(dur)
	return nil
}

func (p *Policy) parseShedAt(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.ArgErr()
	}
	if args[0] == "off" {
		p.ShedAt = 1
		return nil
	}
	share, err := parsePercent(args[0])
	if err != nil || !(share > 0 && share <= 1) {
		return d.Errf("shed_at: '%s' is not a percentage above 0%% and up to 100%%, nor 'off'", args[0])
	}
	p.ShedAt = share
	return nil
}

func (p *Policy) parseWeight(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 2 {
		return d.ArgErr()
	}
	if _, ok := p.Weights[args[0]]; ok {
		return d.Errf("weight of %s: given twice", args[0])
	}
	w, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return d.Errf("weight of %s: '%s' is not a number", args[0], args[1])
	}
	if err := checkWeight(w); err != nil {
		return d.Errf("weight of %s: %v", args[0], err)
	}
	if p.Weights == nil {
		p.Weights = make(map[string]float64)
	}
	p.Weights[args[0]] = w
	notePlace(d, weightRule(args[0]))
	return nil
}

func (p *Policy) parseTier(d *caddyfile.Dispenser, args []string) error {
	if len(args) < 2 {
		return d.ArgErr()
	}
	tier, err := strconv.Atoi(args[0])
	if err != nil {
		return d.Errf("tier: '%s' is not a number; the tier comes first, then its addresses", args[0])
	}
	if err := checkTier(tier); err != nil {
		return d.Errf("tier: %v", err)
	}
	if p.Tiers == nil {
		p.Tiers = make(map[string]int)
	}
	for _, addr := range args[1:] {
		if _, ok := p.Tiers[addr]; ok {
			return d.Errf("tier of %s: given twice", addr)
		}
		p.Tiers[addr] = tier
		notePlace(d, tierRule(addr))
	}
	return nil
}

func (p *Policy) parseSlowStart(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.ArgErr()
	}
	if args[0] == "off" {
		p.SlowStart = -1
		return nil
	}
	dur, err := caddy.ParseDuration(args[0])
	if err != nil || dur <= 0 {
		return d.Errf("slow_start: '%s' is not a duration above 0, nor 'off'", args[0])
	}
	p.SlowStart = caddy.Duration(dur)
	return nil
}

func (p *Policy) parseEject(d *caddyfile.Dispenser, args []string) error {
	if len(args) == 1 && args[0] == "off" {
		p.EjectFailures = -1
		return nil
	}
	if len(args) != 2 || args[1] != "failures" {
		return d.Err("eject: want '<number> failures' or 'off'")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 {
		return d.Errf("eject: '%s' is not a number of failures, 1 or more", args[0])
	}
	p.EjectFailures = n
	return nil
}

func (p *Policy) parseSpill(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.ArgErr()
	}
	number, ok := strings.CutSuffix(args[0], "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(percent >= 100 && percent <= 1000) {
		return d.Errf("spill: '%s' is not a percentage from 100%% to 1000%%", args[0])
	}
	p.Spill = percent / 100
	return nil
}

var _ caddyfile.Unmarshaler = (*Policy)(nil)
