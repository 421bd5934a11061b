package gpupolicy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// Sticky keeps a client's requests at one node, for services that keep a
// session there, by a cookie or by a request header. See docs/sticky.md for
// when a session moves all the same.
type Sticky struct {
	// Gives clients a cookie that names their node.
	Cookie *StickyCookie `json:"cookie,omitempty"`

	// A request header whose values are spread over the nodes: the same value
	// goes to the same node, at every gateway with the same upstreams, weights
	// and tiers. Requests without it go to the best node.
	Header string `json:"header,omitempty"`
}

// StickyCookie is the cookie of a session. It is HttpOnly, and Secure where
// clients use TLS. Its value is a keyed hash (HMAC-SHA-256) of the node's
// address, so it can't be made up and does not tell the address.
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
	if (s.Cookie == nil) == (s.Header == "") {
		return errors.New("sticky: want one of a cookie and a header")
	}
	if s.Cookie == nil {
		if !httpguts.ValidHeaderFieldName(s.Header) {
			return fmt.Errorf("sticky header: '%s' is not the name of a header", s.Header)
		}
		return nil
	}
	c := s.Cookie
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

// token is what a cookie says of the node with this address.
func (c *StickyCookie) token(dial string) string {
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte(dial))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// cookie returns the Set-Cookie value of a node.
func (c *StickyCookie) cookie(token string, tls bool) string {
	path := c.Path
	if path == "" {
		path = "/"
	}
	return (&http.Cookie{
		Name:     c.Name,
		Value:    token,
		Path:     path,
		Secure:   tls,
		HttpOnly: true,
		SameSite: sameSites[c.SameSite],
	}).String()
}

// wish is where a request wants to go.
type wish struct {
	read   bool
	tokens []string // of its cookies
	hash   uint64   // of its header
	any    bool
}

// read finds out what the request wishes.
func (s *Sticky) read(r *http.Request) wish {
	w := wish{read: true}
	if s.Cookie == nil {
		value := strings.Join(r.Header.Values(s.Header), ",")
		if strings.EqualFold(s.Header, "Host") {
			value = r.Host
		}
		if value != "" {
			w.hash, w.any = hash(value), true
		}
		return w
	}
	// A browser sends several of one name if they were set for several paths.
	for i, c := range r.CookiesNamed(s.Cookie.Name) {
		if i == 4 {
			break
		}
		w.tokens, w.any = append(w.tokens, c.Value), true
	}
	return w
}

// affinity is how much the request wishes to go to the member, 0 for not at all.
func (w *wish) affinity(m *member) float64 {
	if !w.any {
		return 0
	}
	if w.tokens == nil {
		return rendezvous(w.hash, m)
	}
	for i, token := range w.tokens {
		if hmac.Equal([]byte(token), []byte(m.token)) {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// rendezvous ranks the nodes for a value as weighted rendezvous hashing does
// (Thaler and Ravishankar, 1998; weights by Schindelhauer and Schomaker, 2005):
// -weight/ln(u) for a u of the value and the node alone, the highest first. So
// gateways agree without a word, and when a node goes only its values move.
// Preferred tiers come first.
func rendezvous(value uint64, m *member) float64 {
	u := (float64(mix(value^m.seed)>>11) + 0.5) / (1 << 53) // in (0, 1)
	score := -m.weight / math.Log(u)
	return float64(balance.MaxTier-m.tier) + score/(1+score)
}

func hash(s string) uint64 {
	sum := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(sum[:])
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// identify gives the member what sessions know it by.
func (s *Sticky) identify(m *member) {
	switch {
	case s == nil:
	case s.Cookie != nil:
		m.token = s.Cookie.token(m.dial)
	default:
		m.seed = hash(m.dial)
	}
}

// wish returns what a request wishes, nil if nothing.
func (p *Policy) wish(r *http.Request, state *request) *wish {
	if p.Sticky == nil || state == nil || !p.observed {
		return nil
	}
	if !state.wish.read {
		state.wish = p.Sticky.read(r)
	}
	if !state.wish.any {
		return nil
	}
	return &state.wish
}

// pickPinned picks the node that a request wishes to go to, if it does and
// nothing speaks against it. With a queue it may wait for that node to have room.
func (p *Policy) pickPinned(pool reverseproxy.UpstreamPool, r *http.Request, state *request) *reverseproxy.Upstream {
	w := p.wish(r, state)
	if w == nil {
		return nil
	}
	var chosen *reverseproxy.Upstream
	pin := balance.PinNone
	line := p.lineOf(pool, w)
	try := func() bool {
		chosen, pin = p.tryPin(pool, r, state, w, line)
		return pin != balance.PinWaits
	}
	if line == nil {
		try()
	} else {
		_ = line.Wait(r.Context(), p.urgency(r, state), try) // whoever is refused asks the others
	}
	if pin == balance.PinWaits {
		pin = balance.PinFull
	}
	countPin(pin)
	return chosen
}

// openLine gives the member a line of its own for requests pinned to it. In the
// queue for all nodes they would hold up those who take any, or give up a pin
// that is worth some patience.
func (p *Policy) openLine(m *member) {
	if p.Sticky == nil || p.queue == nil {
		return
	}
	m.line = queues.acquire("pinned to "+m.dial+" of "+p.queue.key, balance.QueueOptions{
		Capacity: p.Queue.Capacity,
		Patience: time.Duration(p.Queue.Patience) / 2, // the rest is for the other nodes
	})
	m.node.Audience().Join(m.line.Queue)
}

func (m *member) closeLine() {
	if m.line != nil {
		m.node.Audience().Leave(m.line.Queue)
		queues.release(m.line)
	}
}

// lineOf returns where requests wait that wish for the same node, nil without a
// queue.
func (p *Policy) lineOf(pool reverseproxy.UpstreamPool, w *wish) *balance.Queue {
	if p.queue == nil {
		return nil
	}
	now := clock()
	var first *member
	most := 0.0
	for i, u := range pool {
		m := p.members.get(now, i, u)
		if f := w.affinity(m); f > most {
			first, most = m, f
		}
	}
	if first == nil || first.line == nil {
		return nil
	}
	return first.line.Queue
}

func (p *Policy) tryPin(pool reverseproxy.UpstreamPool, r *http.Request, state *request, w *wish, line *balance.Queue) (*reverseproxy.Upstream, balance.Pin) {
	now := clock()
	candidates := p.scratch.Get().(*[]balance.Candidate)
	defer p.scratch.Put(candidates)
	p.look(now, pool, state, candidates)
	for i, u := range pool {
		m := p.members.get(now, i, u)
		(*candidates)[i].Affinity = w.affinity(m)
		if m.line != nil {
			(*candidates)[i].Backlog = m.line.Backlog()
		}
	}
	a := new(attempt)
	chosen, pin := p.balancer.PickPinned(now, *candidates, &a.Attempt)
	if chosen < 0 {
		return nil, pin
	}
	if a.queue = line; pin != balance.PinKept && p.queue != nil {
		a.queue = p.queue.Queue
	}
	return p.reserved(now, pool, r, state, *candidates, chosen, a), pin
}

// pinAnswer has an answer give its client the cookie of the node it comes from,
// if the client does not have that already. Failures pin nobody.
func (p *Policy) pinAnswer(r *http.Request, a *attempt, v balance.Verdict, header http.Header) {
	if p.Sticky == nil || p.Sticky.Cookie == nil || a.member == nil || v != balance.Served && v != balance.Alive {
		return
	}
	if w := &a.request.wish; w.affinity(a.member) > 0 {
		return
	}
	// Caddy sets the field in requests to nodes, and lets no client forge it.
	tls := r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
	header.Add("Set-Cookie", p.Sticky.Cookie.cookie(a.member.token, tls))
	header.Add("Cache-Control", `no-cache="Set-Cookie"`) // no shared cache is to pin others (RFC 9111, section 5.2.2.4)
}

func (p *Policy) parseSticky(d *caddyfile.Dispenser, args []string) error {
	if p.Sticky != nil {
		return d.Err("sticky: given twice")
	}
	if len(args) != 2 {
		return d.Err("sticky: want 'cookie <name>' or 'header <name>'")
	}
	s := new(Sticky)
	switch args[0] {
	case "cookie":
		s.Cookie = &StickyCookie{Name: args[1]}
	case "header":
		s.Header = args[1]
	default:
		return d.Errf("sticky: '%s' is neither cookie nor header", args[0])
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if s.Cookie == nil {
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
	p.Sticky = s
	return nil
}
