package gpupolicy

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// plain is a transport with no ability but to carry requests.
type plain struct{}

func (plain) RoundTrip(*http.Request) (*http.Response, error) { return nil, http.ErrNotSupported }

// able has every ability that Caddy asks transports for.
type able struct {
	plain
	tls, h2c bool
}

func (a *able) TLSEnabled() bool                               { return true }
func (a *able) EnableTLS(*reverseproxy.TLSConfig) error        { a.tls = true; return nil }
func (a *able) EnableH2C() error                               { a.h2c = true; return nil }
func (a *able) ProxyProtocolEnabled() bool                     { return true }
func (a *able) OverrideHealthCheckScheme(u *url.URL, _ string) { u.Scheme = "https" }
func (a *able) RequiresContentLength() bool                    { return true }
func (a *able) DefaultBufferSizes() (int64, int64)             { return 1, 2 }
func (a *able) RequestHeaderOps() *headers.HeaderOps           { return &headers.HeaderOps{} }

func TestObserverHasTheAbilitiesOfItsTransport(t *testing.T) {
	inner := new(able)
	o := &observer{RoundTripper: inner}
	u := &url.URL{Scheme: "http"}
	o.OverrideHealthCheckScheme(u, "80")
	in, out := o.DefaultBufferSizes()
	if !o.TLSEnabled() || o.EnableTLS(nil) != nil || !inner.tls || o.EnableH2C() != nil || !inner.h2c ||
		!o.ProxyProtocolEnabled() || u.Scheme != "https" || !o.RequiresContentLength() || in != 1 || out != 2 ||
		o.RequestHeaderOps() == nil {
		t.Error("an ability is lost")
	}
	if o.Unwrap() != http.RoundTripper(inner) {
		t.Error("Unwrap gives another transport")
	}
}

func TestObserverHasNoAbilityOfItsOwn(t *testing.T) {
	o := &observer{RoundTripper: plain{}}
	u := &url.URL{Scheme: "http"}
	o.OverrideHealthCheckScheme(u, "80")
	in, out := o.DefaultBufferSizes()
	if o.TLSEnabled() || o.EnableTLS(nil) == nil || o.EnableH2C() == nil || o.ProxyProtocolEnabled() ||
		u.Scheme != "http" || o.RequiresContentLength() || in != 0 || out != 0 || o.RequestHeaderOps() != nil {
		t.Error("claims an ability its transport lacks")
	}
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		status     int
		retryAfter string
		want       balance.Verdict
		wait       time.Duration
	}{
		{101, "", balance.Alive, 0},
		{200, "", balance.Served, 0},
		{204, "", balance.Served, 0},
		{304, "", balance.Alive, 0},
		{400, "", balance.Alive, 0},
		{408, "", balance.Alive, 0},
		{429, "", balance.Busy, 0},
		{429, "7", balance.Busy, 7 * time.Second},
		{500, "7", balance.Failed, 7 * time.Second},
		{501, "", balance.Alive, 0},
		{502, "", balance.Failed, 0},
		{503, "", balance.Failed, 0},
		{503, "7", balance.Busy, 7 * time.Second},
		{503, "soon", balance.Failed, 0},
		{504, "", balance.Failed, 0},
		{505, "", balance.Alive, 0},
		{599, "", balance.Failed, 0},
	} {
		res := &http.Response{StatusCode: test.status, Header: http.Header{}}
		if test.retryAfter != "" {
			res.Header.Set("Retry-After", test.retryAfter)
		}
		if v, wait := judge(res); v != test.want || wait != test.wait {
			t.Errorf("%d, Retry-After %q: %v after %v, want %v after %v", test.status, test.retryAfter, v, wait, test.want, test.wait)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "120": 2 * time.Minute,
		"Mon, 23 Nov 2026 06:01:00 GMT": time.Minute,
		"Mon, 23 Nov 2026 05:00:00 GMT": 0,
	} {
		if d, ok := parseRetryAfter(value, now); !ok || d != want {
			f.Errorf("%q: %v, %v; want %v", value, d, ok, want)
		}
		f.Add(value)
	}
	f.Add("18446744073709551615")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, value string) {
		d, ok := parseRetryAfter(value, now)
		if d < 0 || !ok && d != 0 || strings.TrimSpace(value) == "" && ok {
			t.Fatalf("%q: %v, %v", value, d, ok)
		}
	})
}
