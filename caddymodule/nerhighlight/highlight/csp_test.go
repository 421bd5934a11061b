package highlight

import (
	"strings"
	"testing"
)

func TestPoliciesAreObeyed(t *testing.T) {
	for name, c := range map[string]struct {
		policies []string
		nonce    string
		ok       bool
	}{
		"none":                      {nil, "", true},
		"other things":              {[]string{"img-src 'none'"}, "", true},
		"self":                      {[]string{"default-src 'self'"}, "", true},
		"nothing":                   {[]string{"default-src 'none'"}, "", false},
		"inline only":               {[]string{"style-src 'unsafe-inline'"}, "", false},
		"the narrower one counts":   {[]string{"default-src 'self'; style-src 'none'"}, "", false},
		"the narrowest one counts":  {[]string{"style-src 'none'; style-src-elem 'self'"}, "", true},
		"the first one counts":      {[]string{"style-src 'none'; style-src 'self'"}, "", false},
		"nonce":                     {[]string{"style-src 'nonce-aGk='"}, "aGk=", true},
		"all policies":              {[]string{"style-src 'self'", "default-src 'none'"}, "", false},
		"two in one header":         {[]string{"style-src 'self', default-src 'none'"}, "", false},
		"a nonce in all that need":  {[]string{"style-src 'nonce-x' 'nonce-y'", "style-src 'nonce-y'", "style-src 'self'"}, "y", true},
		"a nonce in one of two":     {[]string{"style-src 'nonce-x'", "style-src 'nonce-y'"}, "", false},
		"a nonce that is mark-up":   {[]string{`style-src 'nonce-"><script>'`}, "", false},
		"this host":                 {[]string{"style-src https://example.com"}, "", true},
		"another host":              {[]string{"style-src cdn.example.com"}, "", false},
		"upper case":                {[]string{"Style-Src 'SELF'"}, "", true},
		"a hash":                    {[]string{"style-src 'sha256-abc='"}, "", false},
		"an empty list is 'none'":   {[]string{"style-src"}, "", false},
		"an empty policy":           {[]string{" ; "}, "", true},
		"any of the site's schemes": {[]string{"style-src https:"}, "", true},
	} {
		var p Policy
		for _, value := range c.policies {
			p.Add(value)
		}
		if nonce, ok := p.Stylesheet("example.com"); nonce != c.nonce || ok != c.ok {
			t.Errorf("%s: %q %v", name, nonce, ok)
		}
	}
}

func TestMarksGoWithoutStyleWhereAPolicyForbidsIt(t *testing.T) {
	meta := `<head><meta http-equiv="Content-Security-Policy" content="style-src 'none'"></head><p>马云`
	if got, _ := rewrite(t, meta, Options{Stylesheet: "x.css"}, 100); strings.Contains(got, "<link") || !strings.Contains(got, "<mark") {
		t.Error("a policy in the page is not obeyed: " + got)
	}
	var p Policy
	p.Add("style-src 'nonce-abc'")
	got, _ := rewrite(t, "<p>马云马云", Options{Stylesheet: "/a?b&c", Policy: p}, 100)
	if strings.Count(got, `<link rel="stylesheet" href="/a?b&amp;c" nonce="abc"/>`) != 1 {
		t.Error(got)
	}
}
