package nerhighlight

import (
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight/highlight"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("ner_highlight", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("ner_highlight", httpcaddyfile.After, "encode")
}

func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile reads the directive:
//
//	ner_highlight [<matcher>] {
//		theme    auto|neon|light
//		max_body <size>
//		annotate <model>|<url> {
//			request       texts|inputs|text|input
//			authenticated
//			timeout    <duration>
//			budget     <duration>
//			max_calls  <number>
//			include    <elements...>
//			skip       <elements...>
//			cache      <number>|off
//			stylesheet <path>
//		}
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // directive name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		var err error
		switch option := d.Val(); option {
		case "theme":
			var theme string
			if theme, err = one(d); err == nil {
				h.Theme = highlight.Theme(theme)
			}
		case "max_body":
			h.MaxBody, err = size(d)
		case "annotate":
			if h.Annotate != nil {
				return d.Err("annotate is given twice")
			}
			h.Annotate = new(Annotate)
			err = h.Annotate.unmarshalCaddyfile(d)
		default:
			return d.Errf("unrecognized ner_highlight option '%s': there are theme, max_body and annotate", option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Annotate) unmarshalCaddyfile(d *caddyfile.Dispenser) error {
	ref, err := one(d)
	if err != nil {
		return err
	}
	if strings.HasPrefix(ref, "http://") || strings.HasPrefix(ref, "https://") {
		a.Endpoint = ref
	} else {
		a.Model = ref
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		switch option := d.Val(); option {
		case "request":
			a.Request, err = one(d)
		case "authenticated":
			if d.NextArg() {
				return d.ArgErr()
			}
			a.Authenticated = true
		case "timeout":
			a.Timeout, err = duration(d)
		case "budget":
			a.Budget, err = duration(d)
		case "max_calls":
			a.MaxCalls, err = number(d)
		case "include":
			a.Include = append(a.Include, d.RemainingArgs()...)
		case "skip":
			a.Skip = append(a.Skip, d.RemainingArgs()...)
		case "cache":
			if d.NextArg() && d.Val() == "off" {
				a.Cache = -1
				break
			}
			d.Prev()
			a.Cache, err = number(d)
		case "stylesheet":
			a.Stylesheet, err = one(d)
		default:
			return d.Errf("unrecognized annotate option '%s': there are request, authenticated, timeout, budget, max_calls, include, skip, cache and stylesheet", option)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// one reads the one argument of an option.
func one(d *caddyfile.Dispenser) (string, error) {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return "", d.ArgErr()
	}
	return args[0], nil
}

func number(d *caddyfile.Dispenser) (int, error) {
	option := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, d.Errf("%s %s: give a whole number above zero", option, text)
	}
	return n, nil
}

func size(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n < 1 || n > 1<<40 {
		return 0, d.Errf("%s %s: give a size such as 1MiB", option, text)
	}
	return int64(n), nil
}

func duration(d *caddyfile.Dispenser) (caddy.Duration, error) {
	option := d.Val()
	text, err := one(d)
	if err != nil {
		return 0, err
	}
	v, err := caddy.ParseDuration(text)
	if err != nil || v <= 0 {
		return 0, d.Errf("%s %s: give a duration such as 500ms", option, text)
	}
	return caddy.Duration(v), nil
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
