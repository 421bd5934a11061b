package inferhandler

import (
	"math"

	"github.com/dustin/go-humanize"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("inference", parseDirective)
	// Among the handlers that answer requests, before those that answer
	// everything left over.
	httpcaddyfile.RegisterDirectiveOrder("inference", httpcaddyfile.After, "metrics")
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
//	inference [<matcher>] <model> {
//		max_body  <size>
//		max_texts <number>
//		timeout   <duration>
//		request_timeout <placeholder>
//		priority  <placeholder>
//		protocol  oip
//	}
//
// The model is a name of the global option `inference`, builtin/ner-zh,
// builtin/sentiment-zh or a model directory. Before an absolute path write the
// matcher *, because an argument that begins with a slash is taken for a path
// matcher.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume "inference"
	if !d.NextArg() {
		return d.Err("inference needs a model: `inference [<matcher>] <model>`; " +
			"an argument that begins with / is a path matcher, so write `inference * /path/of/model` for a directory")
	}
	h.Model = d.Val()
	if d.NextArg() {
		return d.Errf("unexpected argument '%s' after the model '%s'", d.Val(), h.Model)
	}
	for d.NextBlock(0) {
		option := d.Val()
		var err error
		switch option {
		case "max_texts":
			h.MaxTexts, err = wholeNumber(d)
		case "max_body":
			h.MaxBody, err = byteSize(d)
		case "timeout":
			if !d.NextArg() {
				return d.Errf("%s needs a value", option)
			}
			h.Timeout, err = duration(d, option)
		case "request_timeout":
			h.RequestTimeout, err = word(d)
		case "protocol":
			if h.Protocol, err = word(d); err == nil && h.Protocol != protocolOIP {
				err = d.Errf("protocol '%s': there is %s, the Open Inference Protocol", h.Protocol, protocolOIP)
			}
		case "priority":
			h.Priority, err = word(d)
		default:
			return d.Errf("unrecognized inference option '%s': there are max_body, max_texts, timeout, request_timeout, priority and protocol", option)
		}
		if err != nil {
			return err
		}
		if d.NextArg() {
			return d.Errf("unexpected argument '%s' after %s", d.Val(), option)
		}
	}
	return nil
}

func byteSize(d *caddyfile.Dispenser) (int64, error) {
	option := d.Val()
	if !d.NextArg() {
		return 0, d.Errf("%s needs a size such as 1MiB", option)
	}
	return parseSize(d, option)
}

// parseSize reads the current token.
func parseSize(d *caddyfile.Dispenser, what string) (int64, error) {
	n, err := humanize.ParseBytes(d.Val())
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, d.Errf("%s '%s': give a size such as 512KiB or 4MiB", what, d.Val())
	}
	return int64(n), nil
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
