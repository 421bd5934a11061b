package gpupolicy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// parseHealth reads `health <uri> { … }` and `health off`.
func (p *Policy) parseHealth(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 1 {
		return d.Err("health: want a path such as /health, or 'off'")
	}
	if p.Health != nil {
		return d.Err("health: given twice")
	}
	h := &Health{URI: args[0]}
	off := h.URI == "off"
	given := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if off {
			return d.Errf("health off has no options, but '%s' follows", option)
		}
		if given[option] && option != "header" {
			return d.Errf("health %s: given twice", option)
		}
		given[option] = true
		if err := h.parseOption(d, option, d.RemainingArgs()); err != nil {
			return err
		}
	}
	if off {
		return nil
	}
	copied := *h // provisioning fills in defaults, which do not belong into the JSON
	if err := copied.provision(caddy.NewEmptyReplacer()); err != nil {
		return d.WrapErr(err)
	}
	p.Health = h
	return nil
}

func (h *Health) parseOption(d *caddyfile.Dispenser, option string, args []string) error {
	least, most := 1, 1
	switch option {
	case "interval", "timeout", "rise", "fall", "body", "start":
	case "status":
		most = 20
	case "json":
		most = 2
	case "header":
		least, most = 2, 2
	default:
		return d.Errf("unrecognized option '%s': health knows interval, timeout, rise, fall, status, body, json, header and start", option)
	}
	if len(args) < least || len(args) > most {
		return d.ArgErr()
	}
	switch option {
	case "interval", "timeout":
		dur, err := caddy.ParseDuration(args[0])
		if err != nil || dur <= 0 {
			return d.Errf("health %s: '%s' is not a duration such as 1s", option, args[0])
		}
		if option == "interval" {
			h.Interval = caddy.Duration(dur)
		} else {
			h.Timeout = caddy.Duration(dur)
		}
	case "rise", "fall":
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			return d.Errf("health %s: '%s' is not a number of checks, 1 or more", option, args[0])
		}
		if option == "rise" {
			h.Rise = n
		} else {
			h.Fall = n
		}
	case "status":
		for _, arg := range args {
			n, err := strconv.Atoi(strings.TrimSuffix(arg, "xx"))
			if err != nil {
				return d.Errf("health status: '%s' is neither a status such as 200 nor a class such as 2xx", arg)
			}
			h.Status = append(h.Status, n)
		}
	case "body":
		h.Body = args[0]
	case "json":
		h.JSONKey = args[0]
		if len(args) == 2 {
			h.JSONValue = args[1]
		}
	case "header":
		if h.Headers == nil {
			h.Headers = make(http.Header)
		}
		h.Headers.Add(args[0], args[1])
	case "start":
		h.Start = args[0]
	}
	return nil
}
