package sharedcache

import (
	"math"
	"strconv"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("shared_cache", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		handler := new(Handler)
		return handler, handler.UnmarshalCaddyfile(h.Dispenser)
	})
	// After what changes requests, before what answers them.
	httpcaddyfile.RegisterDirectiveOrder("shared_cache", httpcaddyfile.After, "encode")
}

// UnmarshalCaddyfile reads the directive:
//
//	shared_cache [<matcher>] <address> {
//		model      <name and version>
//		username   <name>
//		password   <password>
//		database   <number>
//		ttl        <duration>
//		max_body   <size>
//		max_answer <size>
//		headers    <names...>
//		timeout    <duration>
//	}
//
// model must be given.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume "shared_cache"
	if !d.NextArg() {
		return d.Err("shared_cache needs the address of Redis: `shared_cache 10.0.0.20:6379`")
	}
	h.Address = d.Val()
	if d.NextArg() {
		return d.Errf("unexpected argument '%s' after the address '%s'", d.Val(), h.Address)
	}
	for d.NextBlock(0) {
		option := d.Val()
		args := d.RemainingArgs()
		if option == "headers" {
			if len(args) == 0 {
				return d.Err("headers needs names of headers")
			}
			h.Headers = append(h.Headers, args...)
			continue
		}
		if len(args) != 1 {
			return d.Errf("%s needs one value, got %d", option, len(args))
		}
		var err error
		switch value := args[0]; option {
		case "model":
			h.Model = value
		case "username":
			h.Username = value
		case "password":
			h.Password = value
		case "database":
			if h.Database, err = strconv.Atoi(value); err != nil || h.Database < 0 {
				return d.Errf("database '%s': give 0 or more", value)
			}
		case "ttl":
			h.TTL, err = duration(d, option, value)
		case "timeout":
			h.Timeout, err = duration(d, option, value)
		case "max_body":
			h.MaxBody, err = size(d, option, value)
		case "max_answer":
			h.MaxAnswer, err = size(d, option, value)
		default:
			return d.Errf("unrecognized shared_cache option '%s': there are model, username, password, database, ttl, max_body, max_answer, headers and timeout", option)
		}
		if err != nil {
			return err
		}
	}
	if h.Model == "" {
		return d.Err("shared_cache needs model: name what answers and its version, such as `model raner-1`, and change it with the model, or old answers stay")
	}
	return nil
}

func duration(d *caddyfile.Dispenser, option, value string) (caddy.Duration, error) {
	v, err := caddy.ParseDuration(value)
	if err != nil || v <= 0 {
		return 0, d.Errf("%s '%s': give a duration above zero such as 50ms or 1h", option, value)
	}
	return caddy.Duration(v), nil
}

func size(d *caddyfile.Dispenser, option, value string) (int64, error) {
	n, err := humanize.ParseBytes(value)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, d.Errf("%s '%s': give a size such as 512KiB or 4MiB", option, value)
	}
	return int64(n), nil
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
