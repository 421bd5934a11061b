//go:build unix

package failover

import (
	"bufio"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// Caddy waits for requests under way before it ends, and the dashboard's
// streams have no end of their own.
func TestProcessEndsWhileSomebodyWatchesTheDashboard(t *testing.T) {
	t.Parallel()
	places, err := gateway.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.Caddy(places, binaries.Caddy, `{
	admin `+places.Admin+`
	persist_config off
}
http://`+places.Addr+` {
	gpu_dashboard {
		interval 1h
	}
}`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	resp, err := http.Get(g.URL("/events"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	events := bufio.NewReader(resp.Body)
	if line, err := events.ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry:") {
		t.Fatalf("%v: the stream begins with %q", err, line)
	}
	if err := syscall.Kill(g.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to end", func() bool { return syscall.Kill(g.PID(), 0) != nil })
}
