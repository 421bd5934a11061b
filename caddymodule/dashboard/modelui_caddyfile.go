package dashboard

import (
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterDirective("model_ui", parseModelUI)
	// Before every handler that may serve the API or the rest of the site, since
	// the page passes on what isn't its own.
	httpcaddyfile.RegisterDirectiveOrder("model_ui", httpcaddyfile.Before, "abort")
}

// parseModelUI gives a leading path its meaning here: the page's mount point
// with everything below it, where Caddy would take it for a matcher of exactly
// that path and the assets would go missing.
func parseModelUI(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // directive name
	isPath := h.NextArg() && strings.HasPrefix(h.Val(), "/")
	h.Reset()
	h.Next()
	ui := new(ModelUI)
	if isPath {
		h.Reset()
		if err := ui.UnmarshalCaddyfile(h.Dispenser); err != nil {
			return nil, err
		}
		return h.NewRoute(nil, ui), nil
	}
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	if err := ui.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return h.NewRoute(matchers, ui), nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	model_ui [<matcher>] [<path>] {
//		api   <path>
//		title <text>
//		task  auto|ner|sentiment
//	}
func (m *ModelUI) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // directive name
	if d.NextArg() {
		m.Path = strings.TrimSuffix(d.Val(), "*")
		if !strings.HasPrefix(m.Path, "/") {
			return d.Errf("model_ui path %q must start with a slash", d.Val())
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		var setting *string
		switch d.Val() {
		case "api":
			setting = &m.API
		case "title":
			setting = &m.Title
		case "task":
			setting = &m.Task
		default:
			return d.Errf("unrecognised option %q of model_ui; it knows api, title and task", d.Val())
		}
		if *setting != "" {
			return d.Errf("%s is given twice", d.Val())
		}
		if !d.AllArgs(setting) {
			return d.ArgErr()
		}
	}
	// Once more with the file and line at hand; JSON configurations get theirs
	// when the handler is provisioned.
	checked := *m
	checked.fillDefaults()
	if err := checked.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*ModelUI)(nil)
