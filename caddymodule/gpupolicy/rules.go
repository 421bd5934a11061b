package gpupolicy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Weights within these bounds keep scores far from the limits of floating point.
const (
	minWeight = 1e-6
	maxWeight = 1e6
)

// rules say which weight and tier an address has, and by what sessions know it.
type rules struct {
	weights  map[string]float64
	tiers    map[string]int
	prefixes []prefixTier // longest first
	sticky   *Sticky
}

type prefixTier struct {
	prefix netip.Prefix
	tier   int
}

func (p *Policy) rules() (rules, error) {
	r := rules{weights: make(map[string]float64), tiers: make(map[string]int), sticky: p.Sticky}
	for addr, w := range p.Weights {
		if err := checkWeight(w); err != nil {
			return r, fmt.Errorf("weight of %s: %w", addr, err)
		}
		r.weights[canonical(addr)] = w
	}
	for addr, tier := range p.Tiers {
		if err := checkTier(tier); err != nil {
			return r, fmt.Errorf("tier of %s: %w", addr, err)
		}
		if !isPrefix(addr) {
			r.tiers[canonical(addr)] = tier
			continue
		}
		prefix, err := netip.ParsePrefix(addr)
		if err != nil {
			return r, fmt.Errorf("tier of %s: parsing CIDR: %w", addr, err)
		}
		r.prefixes = append(r.prefixes, prefixTier{prefix.Masked(), tier})
	}
	sort.Slice(r.prefixes, func(i, j int) bool { return r.prefixes[i].prefix.Bits() > r.prefixes[j].prefix.Bits() })
	return r, nil
}

func checkWeight(w float64) error {
	if !(w >= minWeight && w <= maxWeight) { // NaN is neither
		return fmt.Errorf("%g is not a number from %g to %g; to take a node out, drain it or remove its upstream", w, minWeight, maxWeight)
	}
	return nil
}

func checkTier(tier int) error {
	if tier < 1 || tier > balance.MaxTier {
		return fmt.Errorf("%d is not a number from 1 to %d", tier, balance.MaxTier)
	}
	return nil
}

func (r *rules) weight(dial string) float64 {
	if w, ok := r.weights[dial]; ok {
		return w
	}
	return 1
}

func (r *rules) tier(dial string) int {
	if tier, ok := r.tiers[dial]; ok {
		return tier
	}
	if len(r.prefixes) == 0 {
		return 1
	}
	if ip, ok := ipOf(dial); ok {
		for _, p := range r.prefixes {
			if p.prefix.Contains(ip) {
				return p.tier
			}
		}
	}
	return 1
}

// checkAddresses finds rules that no upstream can meet: a typing error that
// would otherwise quietly give a node the wrong share. Dynamic upstreams may
// come to meet them later, so there it is a warning.
func (p *Policy) checkAddresses(r rules, h *reverseproxy.Handler) error {
	dials := make([]string, 0, len(h.Upstreams))
	for _, u := range h.Upstreams {
		dials = append(dials, u.Dial)
	}
	var unmet []string
	for addr := range p.Weights {
		if !slices.Contains(dials, canonical(addr)) {
			unmet = append(unmet, withPlace(weightRule(addr)))
		}
	}
	for addr := range p.Tiers {
		if !slices.ContainsFunc(dials, func(dial string) bool { return meets(dial, addr) }) {
			unmet = append(unmet, withPlace(tierRule(addr)))
		}
	}
	unmet = append(unmet, p.checkDevices(dials)...)
	if len(unmet) == 0 {
		return nil
	}
	slices.Sort(unmet)
	if h.DynamicUpstreamsRaw != nil {
		p.logger.Warn("no static upstream has these addresses; they take effect when a dynamic one does",
			zap.Strings("options", unmet))
		return nil
	}
	return fmt.Errorf("%s: no upstream of this reverse_proxy has this address; it has %s",
		strings.Join(unmet, ", "), strings.Join(dials, ", "))
}

func weightRule(addr string) string { return "weight " + addr }

func tierRule(addr string) string { return "tier " + addr }

func meets(dial, rule string) bool {
	if !isPrefix(rule) {
		return canonical(rule) == dial
	}
	prefix, err := netip.ParsePrefix(rule)
	ip, ok := ipOf(dial)
	return err == nil && ok && prefix.Masked().Contains(ip)
}

// isPrefix tells a CIDR from an address: network addresses such as
// unix//run/a.sock have slashes, too.
func isPrefix(addr string) bool {
	_, bits, ok := strings.Cut(addr, "/")
	return ok && bits != "" && strings.Trim(bits, "0123456789") == ""
}

func ipOf(dial string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(dial)
	if err != nil {
		host = dial
	}
	ip, err := netip.ParseAddr(host)
	return ip.Unmap().WithZone(""), err == nil
}

// canonical returns the dial address that reverse_proxy makes of an upstream
// written in the Caddyfile, so that both may be written alike.
func canonical(addr string) string {
	port := "80"
	for scheme, p := range map[string]string{"http://": "80", "https://": "443", "h2c://": "80"} {
		if rest, ok := strings.CutPrefix(addr, scheme); ok {
			addr, port = rest, p
		}
	}
	if strings.HasPrefix(addr, "unix") || strings.Contains(addr, "{") {
		return addr
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	return addr
}
