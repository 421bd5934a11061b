package highlight

import (
	"regexp"
	"strings"
)

// Policy is a page's content security policies. A page with several obeys all
// of them.
type Policy struct {
	// styles holds, for each policy that restricts style sheets, its sources.
	styles [][]string
}

// Add adds the value of a Content-Security-Policy header, which may hold several
// policies, or of a <meta>.
func (p *Policy) Add(value string) {
	for one := range strings.SplitSeq(value, ",") {
		directives := map[string][]string{}
		for directive := range strings.SplitSeq(one, ";") {
			words := strings.Fields(directive)
			if len(words) == 0 {
				continue
			}
			name := strings.ToLower(words[0])
			if _, twice := directives[name]; !twice { // the first one counts
				directives[name] = words[1:]
			}
		}
		for _, name := range []string{"style-src-elem", "style-src", "default-src"} {
			if sources, ok := directives[name]; ok {
				p.styles = append(p.styles, sources)
				break
			}
		}
	}
}

var nonceSource = regexp.MustCompile(`^'(?i:nonce)-([A-Za-z0-9+/_-]+={0,2})'$`)

// Stylesheet says whether every policy lets the page load a style sheet of its
// own site at host, and with which nonce, if one is needed. A policy is only
// ever obeyed, never changed: if it lets none, marks go without style.
func (p *Policy) Stylesheet(host string) (nonce string, ok bool) {
	var needed [][]string // sources of policies that allow it only by nonce
	for _, sources := range p.styles {
		if !allowsSelf(sources, host) {
			needed = append(needed, sources)
		}
	}
	if len(needed) == 0 {
		return "", true
	}
	for _, source := range needed[0] {
		m := nonceSource.FindStringSubmatch(source)
		if m == nil {
			continue
		}
		everywhere := true
		for _, sources := range needed[1:] {
			everywhere = everywhere && hasNonce(sources, m[1])
		}
		if everywhere {
			return m[1], true
		}
	}
	return "", false
}

func hasNonce(sources []string, nonce string) bool {
	for _, s := range sources {
		if m := nonceSource.FindStringSubmatch(s); m != nil && m[1] == nonce {
			return true
		}
	}
	return false
}

func allowsSelf(sources []string, host string) bool {
	for _, s := range sources {
		s = strings.ToLower(s)
		switch s {
		case "'self'", "*", "https:", "http:":
			return true
		}
		s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
		if host != "" && strings.EqualFold(s, host) {
			return true
		}
	}
	return false
}
