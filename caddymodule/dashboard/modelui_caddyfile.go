package dashboard

import (
	"strconv"
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
//		api       <path>
//		title     <text>
//		task      auto|ner|sentiment
//		also      <path> ner|sentiment
//		example   <text>...
//		max_chars <number>
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
		if err := m.unmarshalOption(d); err != nil {
			return err
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

func (m *ModelUI) unmarshalOption(d *caddyfile.Dispenser) error {
	option := d.Val()
	var setting *string
	switch option {
	case "api":
		setting = &m.API
	case "title":
		setting = &m.Title
	case "task":
		setting = &m.Task
	case "also":
		var other OtherModel
		if !d.AllArgs(&other.API, &other.Task) {
			return d.ArgErr()
		}
		m.Also = append(m.Also, other)
		return nil
	case "example":
		texts := d.RemainingArgs()
		if len(texts) == 0 {
			return d.ArgErr()
		}
		m.Examples = append(m.Examples, texts...)
		return nil
	case "max_chars":
		if m.MaxChars != 0 {
			return d.Err("max_chars is given twice")
		}
		var number string
		if !d.AllArgs(&number) {
			return d.ArgErr()
		}
		n, err := strconv.Atoi(number)
		if err != nil || n <= 0 {
			return d.Errf("max_chars %q: give a number of characters above zero, such as 10000", number)
		}
		m.MaxChars = n
		return nil
	default:
		return d.Errf("unrecognised option %q of model_ui; it knows api, title, task, also, example and max_chars", option)
	}
	if *setting != "" {
		return d.Errf("%s is given twice", option)
	}
	if !d.AllArgs(setting) {
		return d.ArgErr()
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*ModelUI)(nil)
