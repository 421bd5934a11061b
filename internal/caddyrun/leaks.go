package caddyrun

import (
	"testing"

	"go.uber.org/goleak"
)

// Main is a TestMain for packages whose tests run Caddy: it fails when a
// goroutine outlives the tests, other than those that Caddy starts once per
// process and never stops.
func Main(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The signal handler that importing caddy's dependencies installs.
		goleak.IgnoreTopFunction("os/signal.signal_recv"),
		// reverse_proxy's sweep of dynamic upstreams, started by a sync.Once.
		goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy.(*Upstream).fillDynamicHost.func1.1"),
		// certmagic's process-wide rate limiters.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).permit"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*RingBufferRateLimiter).loop"),
		// certmagic looks every 5 s whether a lock it held is gone, and ends then.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
		// File log writers are rolled by a goroutine per file, for as long as the process lives.
		goleak.IgnoreAnyFunction("github.com/DeRuina/timberjack.(*Logger).millRun"),
		goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
		// Keep-alive connections of http.DefaultClient between tests.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}
