package gpupolicy

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
)

// judge says what a response means for its node: see Policy.
func judge(res *http.Response) (v balance.Verdict, retryAfter time.Duration) {
	retryAfter, asked := parseRetryAfter(res.Header.Get("Retry-After"), time.Now())
	switch s := res.StatusCode; {
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable && asked:
		return balance.Busy, retryAfter
	case s == http.StatusNotImplemented, s == http.StatusHTTPVersionNotSupported:
		return balance.Alive, 0
	case s >= 500:
		return balance.Failed, retryAfter
	case s >= 200 && s < 300:
		return balance.Served, 0
	default:
		// 4xx are validations, 3xx redirections, 101 a tunnel: none of them
		// asked the model.
		return balance.Alive, 0
	}
}

// parseRetryAfter reads the two forms of RFC 9110 §10.2.3; ok tells whether
// the field has one of them. Times past are 0.
func parseRetryAfter(value string, now time.Time) (d time.Duration, ok bool) {
	if value == "" {
		return 0, false
	}
	const longest = 365 * 24 * 3600 // keeps the product from overflowing
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, longest)) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
