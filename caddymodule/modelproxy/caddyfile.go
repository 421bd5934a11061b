// Package modelproxy is the directive model_proxy: reverse_proxy with the
// defaults that models want. It becomes a plain reverse_proxy with `lb_policy
// gpu` when the Caddyfile is adapted; at run time it is nothing but the handler
// behind its option `fallback`.
package modelproxy

import (
	"encoding/json"
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

func init() {
	httpcaddyfile.RegisterDirective("model_proxy", parseDirective)
	httpcaddyfile.RegisterDirectiveOrder("model_proxy", httpcaddyfile.Before, "reverse_proxy")
}

// parseDirective reads
//
//	model_proxy [<matcher>] <upstreams...> {
//		backup   <upstreams...>
//		health   <path> { … } | off
//		fallback <model>
//		no_retry
//		<option of lb_policy gpu>
//		<subdirective of reverse_proxy>
//	}
//
// Whatever is given overrides a default: see defaults.go.
func parseDirective(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	matchers, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	b := block{names: make(map[string]caddyfile.Segment), policy: new(gpupolicy.Policy)}
	h.Next() // the directive again, now without its matcher
	if err := b.read(h.NewFromNextSegment()); err != nil {
		return nil, err
	}
	proxy, err := b.expand(h)
	if err != nil {
		return nil, err
	}
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{caddyconfig.JSONModuleObject(proxy, "handler", "reverse_proxy", nil)}}
	if b.fallback != "" {
		guard := &Fallback{Model: b.fallback, UnsentOnly: b.noRetry}
		route.HandlersRaw = append([]json.RawMessage{caddyconfig.JSONModuleObject(guard, "handler", "model_fallback", nil)}, route.HandlersRaw...)
	}
	if matchers != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matchers}
	}
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// block is the directive's text, told apart by whom each part concerns.
type block struct {
	head    caddyfile.Token
	to      []caddyfile.Token // the upstreams on the first line
	backups []caddyfile.Segment
	ours    []caddyfile.Segment // options of lb_policy gpu
	rest    []caddyfile.Segment // of reverse_proxy, backups included, in their order
	names   map[string]caddyfile.Segment

	policy   *gpupolicy.Policy
	foreign  bool // lb_policy is another one
	fallback string
	noRetry  bool
}

func (b *block) read(d *caddyfile.Dispenser) error {
	d.Next() // consume "model_proxy"
	b.head = d.Token()
	b.to = d.RemainingArgsAsTokens()
	for d.NextBlock(0) {
		segment := d.NextSegment()
		if err := b.sort(segment); err != nil {
			return err
		}
		if _, twice := b.names[segment.Directive()]; !twice {
			b.names[segment.Directive()] = segment
		}
	}
	return nil
}

// sort finds out whom an option concerns. The policy itself says which options
// it has.
func (b *block) sort(segment caddyfile.Segment) error {
	d := caddyfile.NewDispenser(segment)
	d.Next()
	args := d.RemainingArgs()
	switch name := segment.Directive(); name {
	case "backup":
		if len(args) == 0 {
			return d.Err("backup: want the addresses of upstreams that take over when the others are lost")
		}
		b.backups = append(b.backups, segment)
		b.rest = append(b.rest, to(segment))
	case "fallback":
		if b.fallback != "" {
			return d.Err("fallback: given twice")
		}
		if len(args) != 1 {
			return d.Err("fallback: want the name of a model of the global option inference, or one such as builtin/ner-zh")
		}
		b.fallback = args[0]
	case "no_retry":
		if len(args) != 0 {
			return d.ArgErr()
		}
		b.noRetry = true
	case "lb_policy":
		if len(args) == 0 || args[0] != "gpu" {
			b.foreign = true
			b.rest = append(b.rest, segment)
			return nil
		}
		return b.policy.UnmarshalCaddyfile(caddyfile.NewDispenser(segment[1:]))
	default:
		err := new(gpupolicy.Policy).UnmarshalCaddyfile(b.wrap("gpu", nil, []caddyfile.Segment{segment}))
		if errors.Is(err, gpupolicy.ErrUnknownOption) {
			b.rest = append(b.rest, segment)
			return nil
		}
		b.ours = append(b.ours, segment)
		return nil
	}
	if d.NextBlock(0) {
		return d.Errf("%s has no options, but '%s' follows", segment.Directive(), d.Val())
	}
	return nil
}

// wrap writes `name args { segments }` with tokens that keep their places in
// the file, so that errors name them. The segments must come in the order of
// the file: a token whose line is no later counts as one on the same line.
func (b *block) wrap(name string, args []caddyfile.Token, segments []caddyfile.Segment) *caddyfile.Dispenser {
	tokens := append([]caddyfile.Token{b.token(b.head, 0, name)}, args...)
	if len(segments) == 0 {
		return caddyfile.NewDispenser(tokens)
	}
	tokens = append(tokens, b.token(tokens[len(tokens)-1], 0, "{"))
	for _, s := range segments {
		tokens = append(tokens, s...)
	}
	return caddyfile.NewDispenser(append(tokens, b.token(tokens[len(tokens)-1], 1, "}")))
}

// token is an unquoted one so many lines below the end of another.
func (b *block) token(after caddyfile.Token, below int, text string) caddyfile.Token {
	t := b.head
	t.Text, t.File, t.Line = text, after.File, after.Line+after.NumLineBreaks()+below
	return t
}

// at is a dispenser at a segment, for errors.
func at(s caddyfile.Segment) *caddyfile.Dispenser {
	d := caddyfile.NewDispenser(s)
	d.Next()
	return d
}

// has reports whether any of the options was given, and which.
func (b *block) has(names ...string) (caddyfile.Segment, bool) {
	for _, name := range names {
		if s, ok := b.names[name]; ok {
			return s, true
		}
	}
	return nil, false
}

// expand makes the handler.
func (b *block) expand(h httpcaddyfile.Helper) (*reverseproxy.Handler, error) {
	if b.foreign {
		for _, s := range append(append([]caddyfile.Segment(nil), b.ours...), b.backups...) {
			return nil, at(s).Errf("%s belongs to lb_policy gpu, but another lb_policy is given", s.Directive())
		}
	} else if err := b.policy.UnmarshalCaddyfile(b.wrap("gpu", nil, b.ours)); err != nil {
		return nil, err
	}
	rest, err := b.health()
	if err != nil {
		return nil, err
	}
	proxy := new(reverseproxy.Handler)
	if err := proxy.UnmarshalCaddyfile(b.wrap("reverse_proxy", b.to, rest)); err != nil {
		return nil, err
	}
	if len(proxy.Upstreams) == 0 && proxy.DynamicUpstreamsRaw == nil {
		return nil, at(caddyfile.Segment{b.head}).Err("model_proxy needs upstreams: `model_proxy [<matcher>] <upstreams...>`")
	}
	if err := b.tierBackups(proxy); err != nil {
		return nil, err
	}
	if err := b.setDefaults(proxy); err != nil {
		return nil, err
	}
	if err := proxy.FinalizeUnmarshalCaddyfile(h); err != nil {
		return nil, err
	}
	return proxy, nil
}

// tierBackups puts the backups into the second tier.
func (b *block) tierBackups(proxy *reverseproxy.Handler) error {
	times := make(map[string]int)
	for _, u := range proxy.Upstreams {
		times[u.Dial]++
	}
	for _, s := range b.backups {
		var h reverseproxy.Handler // finds the addresses to dial
		if err := h.UnmarshalCaddyfile(b.wrap("reverse_proxy", nil, []caddyfile.Segment{to(s)})); err != nil {
			return err
		}
		for _, u := range h.Upstreams {
			if times[u.Dial] > 1 {
				return at(s).Errf("backup %s: it is an upstream already", u.Dial)
			}
			if tier, ok := b.policy.Tiers[u.Dial]; ok {
				return at(s).Errf("backup %s: it has tier %d by another option", u.Dial, tier)
			}
			if b.policy.Tiers == nil {
				b.policy.Tiers = make(map[string]int)
			}
			b.policy.Tiers[u.Dial] = backupTier
		}
	}
	return nil
}

const backupTier = 2

// to is a segment `backup …` as reverse_proxy knows it.
func to(s caddyfile.Segment) caddyfile.Segment {
	s = append(caddyfile.Segment(nil), s...)
	s[0].Text = "to"
	return s
}
