package dashboard

import (
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("gpu_dashboard", func(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
		return parsePage(h, new(GPUDashboard))
	})
	httpcaddyfile.RegisterDirectiveOrder("gpu_dashboard", httpcaddyfile.Before, "abort")
}

// page is a handler of a page with assets below it.
type page interface {
	caddyhttp.MiddlewareHandler
	caddyfile.Unmarshaler
}

// parsePage gives a leading path its meaning here: the page's mount point with
// everything below it, where Caddy would take it for a matcher of exactly that
// path and the assets would go missing.
func parsePage(h httpcaddyfile.Helper, p page) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // directive name
	isPath := h.NextArg() && strings.HasPrefix(h.Val(), "/")
	h.Reset()
	if isPath {
		if err := p.UnmarshalCaddyfile(h.Dispenser); err != nil {
			return nil, err
		}
		return h.NewRoute(nil, p), nil
	}
	h.Next()
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	if err := p.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, p), nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	gpu_dashboard [<matcher>] [<path>] {
//		title       <text>
//		interval    <duration>
//		max_viewers <number>
//		orders      [<admin address>]
//	}
//
// The admin address is localhost:2019 unless given.
func (m *GPUDashboard) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // directive name
	if d.NextArg() {
		m.Path = strings.TrimSuffix(d.Val(), "*")
		if !strings.HasPrefix(m.Path, "/") {
			return d.Errf("gpu_dashboard path %q must start with a slash", d.Val())
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		option := d.Val()
		args := d.RemainingArgs()
		if option == "orders" && len(args) == 0 {
			args = []string{caddy.DefaultAdminListen}
		}
		if len(args) != 1 {
			return d.ArgErr()
		}
		switch option {
		case "title":
			m.Title = args[0]
		case "interval":
			v, err := caddy.ParseDuration(args[0])
			if err != nil {
				return d.Errf("interval %s: give a duration such as 1s", args[0])
			}
			m.Interval = caddy.Duration(v)
		case "max_viewers":
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return d.Errf("max_viewers %s: give a number above zero", args[0])
			}
			m.MaxViewers = n
		case "orders":
			m.Orders = args[0]
		default:
			return d.Errf("unrecognised option %q of gpu_dashboard; it knows title, interval, max_viewers and orders", option)
		}
	}
	checked := *m
	checked.fillDefaults()
	if err := checked.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*GPUDashboard)(nil)
