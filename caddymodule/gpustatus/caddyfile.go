package gpustatus

import (
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpustatus/nodeagent"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
	"github.com/caddy-infer/caddy-infer/internal/telemetryfile"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("gpu_status", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		s := new(Status)
		return s, s.UnmarshalCaddyfile(h.Dispenser)
	})
	// After encode and what asks for a password, before all that answers.
	httpcaddyfile.RegisterDirectiveOrder("gpu_status", httpcaddyfile.Before, "invoke")
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	gpu_status [<matcher>] {
//		telemetry <kind> [<address>] {
//			map  <field> <metric>
//			send <text>
//		}
//		telemetry    off
//		interval     <duration>
//		api          <url>
//		webui        <url>
//		timeout      <duration>
//		memory_limit <percent>%|off
//		shed_at      <percent>%
//		model        <name>
//		model_path   <directory>
//		drain_file   <file>
//		agent_check  <address> [api|webui|overall]
//		push         <url>
//		orca
//	}
//
// telemetry, agent_check and push may be repeated. All options have defaults.
func (s *Status) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // directive name
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := map[string]bool{}
	for d.NextBlock(0) {
		option := d.Val()
		switch option {
		case "telemetry", "agent_check", "push":
		default:
			if seen[option] {
				return d.Errf("%s is given twice", option)
			}
			seen[option] = true
		}
		if err := s.option(d, option); err != nil {
			return err
		}
		// At once, with file and line; JSON configurations get theirs when the
		// handler is provisioned.
		checked := *s
		checked.AgentChecks = append([]AgentCheck(nil), s.AgentChecks...)
		checked.setDefaults()
		if err := checked.check(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

func (s *Status) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "telemetry":
		return s.telemetry(d)
	case "interval":
		return durationArg(d, &s.Interval)
	case "timeout":
		return durationArg(d, &s.Timeout)
	case "api":
		return textArg(d, &s.API)
	case "webui":
		return textArg(d, &s.WebUI)
	case "model":
		return textArg(d, &s.Model)
	case "model_path":
		return textArg(d, &s.ModelPath)
	case "drain_file":
		return textArg(d, &s.DrainFile)
	case "memory_limit":
		limit, err := percentArg(d, true)
		s.MemoryLimit = &limit
		return err
	case "shed_at":
		var err error
		s.ShedAt, err = percentArg(d, false)
		return err
	case "agent_check":
		args := d.RemainingArgs()
		if len(args) < 1 || len(args) > 2 {
			return d.ArgErr()
		}
		check := AgentCheck{Listen: args[0]}
		if len(args) == 2 {
			check.For = nodeagent.For(args[1])
		}
		s.AgentChecks = append(s.AgentChecks, check)
		return nil
	case "push":
		var address string
		err := textArg(d, &address)
		s.Push = append(s.Push, address)
		return err
	case "orca":
		if d.NextArg() {
			return d.ArgErr()
		}
		s.ORCA = true
		return nil
	default:
		return d.Errf("unrecognized option '%s': gpu_status knows telemetry, interval, api, webui, timeout, memory_limit, "+
			"shed_at, model, model_path, drain_file, agent_check, push and orca", option)
	}
}

func (s *Status) telemetry(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 1 && args[0] == "off" {
		s.NoTelemetry = true
		return nil
	}
	c, err := telemetryfile.Unmarshal(d, args, "map and send", nil)
	if err != nil {
		return err
	}
	if err := checkSource(c); err != nil {
		return d.WrapErr(err)
	}
	s.Telemetry = append(s.Telemetry, c)
	return nil
}

// checkSource finds mistakes in a source without reading it.
func checkSource(c gpuprobe.Config) error {
	c.Address = replace(c.Address)
	source, err := gpuprobe.Open(c)
	if err != nil {
		return err
	}
	return source.Close()
}

func textArg(d *caddyfile.Dispenser, into *string) error {
	if !d.AllArgs(into) || *into == "" {
		return d.ArgErr()
	}
	return nil
}

func durationArg(d *caddyfile.Dispenser, into *caddy.Duration) error {
	var text string
	if !d.AllArgs(&text) {
		return d.ArgErr()
	}
	v, err := caddy.ParseDuration(text)
	if err != nil {
		return d.Errf("'%s' is no duration such as 1s", text)
	}
	if v <= 0 {
		return d.Errf("%s: give a duration above zero", text)
	}
	*into = caddy.Duration(v)
	return nil
}

// percentArg reads "75%" as 0.75 and, where that may be, "off" as 0.
func percentArg(d *caddyfile.Dispenser, mayBeOff bool) (float64, error) {
	option := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return 0, d.ArgErr()
	}
	if mayBeOff && text == "off" {
		return 0, nil
	}
	number, ok := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(v > 0 && v <= 100) {
		or := ""
		if mayBeOff {
			or = ", or off"
		}
		return 0, d.Errf("%s '%s': give percents such as 75%%%s", option, text, or)
	}
	return v / 100, nil
}

func sizeArg(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	var text string
	if !d.AllArgs(&text) {
		return 0, d.ArgErr()
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > 4<<20 {
		return 0, d.Errf("%s '%s': give a size such as 1MiB, up to 4MiB", option, text)
	}
	return int64(size), nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Status)(nil)
