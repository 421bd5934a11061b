package gpupolicy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Sticky keeps a client's requests at one node, for services that keep a
// session there, by a cookie, by a request header, or by both: the header
// counts where there is one. See docs/sticky.md for when a session moves all
// the same.
type Sticky struct {
	// Gives clients a cookie that names their node.
	Cookie *StickyCookie `json:"cookie,omitempty"`

	// A request header whose values are spread over the nodes: the same value
	// goes to the same node, at every gateway with the same upstreams, weights
	// and tiers. Requests without it go to the best node.
	Header string `json:"header,omitempty"`
}

// StickyCookie is the cookie of a session. It is HttpOnly, and Secure where
// clients use TLS. It holds a keyed hash (HMAC-SHA-256) of the node's address,
// so it can't be made up and does not tell the address, and a random number that
// ranks the other nodes.
type StickyCookie struct {
	// The cookie's name.
	Name string `json:"name"`

	// What the key is derived from: 16 bytes or more, such as {env.NAME} or
	// {file./path}, which are looked up when the configuration loads and do not
	// appear in it. Gateways with the same secret and upstreams know each
	// other's cookies. Default: random, as long as the process lives.
	Secret string `json:"secret,omitempty"`

	// Path and SameSite (lax, strict or none) of the cookie. Defaults: / and
	// lax. A page that others embed needs none, which browsers take over TLS
	// only.
	Path     string `json:"path,omitempty"`
	SameSite string `json:"same_site,omitempty"`

	key []byte
}

const (
	minSecret     = 16
	maxCookieName = 64
	maxCookiePath = 512
)

// processSecret lives as long as the process, so that reloads break no pins.
var processSecret = sync.OnceValue(func() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: see crypto/rand
	return string(b[:])
})

var sameSites = map[string]http.SameSite{
	"":       http.SameSiteLaxMode,
	"lax":    http.SameSiteLaxMode,
	"strict": http.SameSiteStrictMode,
	"none":   http.SameSiteNoneMode,
}

func (s *Sticky) provision(repl *caddy.Replacer) error {
	if s.Cookie == nil {
		return nil
	}
	secret := s.Cookie.Secret
	if secret == "" {
		secret = processSecret()
	} else {
		known, err := repl.ReplaceOrErr(secret, true, true)
		if err != nil { // the message names the placeholder, not what it gives
			return fmt.Errorf("sticky cookie %s: secret: %w", s.Cookie.Name, err)
		}
		if secret = strings.TrimSpace(known); len(secret) < minSecret {
			return fmt.Errorf("sticky cookie %s: secret: %d bytes are too few, want %d or more", s.Cookie.Name, len(secret), minSecret)
		}
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("caddy-infer sticky cookie " + s.Cookie.Name))
	s.Cookie.key = mac.Sum(nil)
	return nil
}

func (s *Sticky) check() error {
	if s.Cookie == nil && s.Header == "" {
		return errors.New("sticky: want a cookie or a header")
	}
	if s.Header != "" && !httpguts.ValidHeaderFieldName(s.Header) {
		return fmt.Errorf("sticky header: '%s' is not the name of a header", s.Header)
	}
	c := s.Cookie
	if c == nil {
		return nil
	}
	if !httpguts.ValidHeaderFieldName(c.Name) || len(c.Name) > maxCookieName { // both are tokens
		return fmt.Errorf("sticky cookie: '%s' is not the name of a cookie, up to %d characters", c.Name, maxCookieName)
	}
	if _, ok := sameSites[c.SameSite]; !ok {
		return fmt.Errorf("sticky cookie %s: same_site is '%s', want lax, strict or none", c.Name, c.SameSite)
	}
	if c.Path != "" && (c.Path[0] != '/' || len(c.Path) > maxCookiePath || strings.ContainsFunc(c.Path, func(r rune) bool {
		return r <= ' ' || r > '~' || r == ';' || r == ','
	})) {
		return fmt.Errorf("sticky cookie %s: '%s' is not a path that a cookie can have", c.Name, c.Path)
	}
	return nil
}

// A cookie is the token of its node and a number, both in base64.
const (
	tokenBytes  = 16
	numberBytes = 6
)

var (
	tokenLength  = base64.RawURLEncoding.EncodedLen(tokenBytes)
	numberLength = base64.RawURLEncoding.EncodedLen(numberBytes)
)

// token is what cookies say of the node with this address.
func (c *StickyCookie) token(dial string) string {
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(dial))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:tokenBytes])
}

// cookie returns the Set-Cookie value of a session at a node.
func (c *StickyCookie) cookie(token, number string, tls bool) string {
	if number == "" {
		var b [numberBytes]byte
		_, _ = rand.Read(b[:])
		number = base64.RawURLEncoding.EncodeToString(b[:])
	}
	path := c.Path
	if path == "" {
		path = "/"
	}
	return (&http.Cookie{ //nolint:gosec // Secure would lose it where clients do not use TLS
		Name:     c.Name,
		Value:    token + number,
		Path:     path,
		Secure:   tls,
		HttpOnly: true,
		SameSite: sameSites[c.SameSite],
	}).String()
}

// identify gives the member what sessions know it by.
func (s *Sticky) identify(m *member) {
	if s == nil {
		return
	}
	m.seed = hash(m.dial)
	if s.Cookie != nil {
		m.token = s.Cookie.token(m.dial)
	}
}

// pinAnswer has an answer give its client the cookie of the node it comes from,
// if the client does not have that already. Failures pin nobody.
func (p *Policy) pinAnswer(r *http.Request, a *attempt, v balance.Verdict, header http.Header) {
	if p.Sticky == nil || p.Sticky.Cookie == nil || a.member == nil || v != balance.Served && v != balance.Alive {
		return
	}
	w := &a.request.wish
	if w.header || w.home == a.member {
		return
	}
	// Caddy sets the field in requests to nodes, and lets no client forge it.
	tls := r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
	header.Add("Set-Cookie", p.Sticky.Cookie.cookie(a.member.token, w.number, tls))
	header.Add("Cache-Control", `no-cache="Set-Cookie"`) // no shared cache is to pin others (RFC 9111, section 5.2.2.4)
}

func (p *Policy) parseSticky(d *caddyfile.Dispenser, args []string) error {
	if len(args) != 2 {
		return d.Err("sticky: want 'cookie <name>' or 'header <name>'")
	}
	if p.Sticky == nil {
		p.Sticky = new(Sticky)
	}
	s := p.Sticky
	switch {
	case args[0] == "cookie" && s.Cookie == nil:
		s.Cookie = &StickyCookie{Name: args[1]}
	case args[0] == "header" && s.Header == "":
		s.Header = args[1]
	case args[0] == "cookie" || args[0] == "header":
		return d.Errf("sticky %s: given twice", args[0])
	default:
		return d.Errf("sticky: '%s' is neither cookie nor header", args[0])
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if args[0] == "header" {
			return d.Errf("sticky header has no options, but '%s' follows", d.Val())
		}
		option := d.Val()
		field, ok := map[string]*string{
			"secret":    &s.Cookie.Secret,
			"path":      &s.Cookie.Path,
			"same_site": &s.Cookie.SameSite,
		}[option]
		if !ok {
			return d.Errf("sticky cookie: unknown option '%s', want secret, path or same_site", option)
		}
		if *field != "" {
			return d.Errf("sticky cookie: %s: given twice", option)
		}
		if !d.Args(field) || d.NextArg() {
			return d.ArgErr()
		}
	}
	if err := s.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}
