package gpupolicy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/http"
	"strings"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// wish is where a request wants to go.
type wish struct {
	read   bool
	header bool // it has the header
	hash   uint64
	// Of its cookies: a browser sends several of one name if they were set for
	// several paths. The first that names a node counts.
	cookies []string
	home    *member // that the cookie names
	number  string  // of that cookie
}

const maxCookies = 4

// read finds out what the request wishes.
func (s *Sticky) read(r *http.Request) wish {
	w := wish{read: true}
	if s.Header != "" {
		value := strings.Join(r.Header.Values(s.Header), ",")
		if strings.EqualFold(s.Header, "Host") {
			value = r.Host
		}
		if value != "" {
			w.hash, w.header = hash(value), true
			return w
		}
	}
	if s.Cookie != nil {
		for _, c := range r.CookiesNamed(s.Cookie.Name) {
			if len(w.cookies) < maxCookies && len(c.Value) <= tokenLength+numberLength {
				w.cookies = append(w.cookies, c.Value)
			}
		}
	}
	return w
}

// any tells whether the request wishes anything.
func (w *wish) any() bool { return w.header || len(w.cookies) > 0 }

// findHome finds the member that the cookies name. What this gateway has not
// made names nobody.
func (w *wish) findHome(members []*member) {
	w.home, w.number = nil, ""
	for _, c := range w.cookies {
		for _, m := range members {
			if len(c) > tokenLength && hmac.Equal([]byte(c[:tokenLength]), []byte(m.token)) {
				w.home, w.number = m, c[tokenLength:]
				return
			}
		}
	}
}

// rank fills in the members' affinities, by position, and returns which comes
// first, nil if none is wished for.
//
// A session that loses its node goes on at the one that its number ranks next,
// not just at the best: clients such as gradio_client keep the first cookie they
// get, and all their requests must find the same node.
func (w *wish) rank(members []*member, affinity []float64) (first *member) {
	value := w.hash
	if !w.header {
		if w.findHome(members); w.home == nil {
			return nil
		}
		value = hash(w.number)
	}
	best := 0.0
	for i, m := range members {
		affinity[i] = rendezvous(value, m)
		if m == w.home {
			affinity[i] = balance.MaxTier + 1
		}
		if affinity[i] > best {
			first, best = m, affinity[i]
		}
	}
	return first
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
