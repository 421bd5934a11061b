package handover

import (
	"flag"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

var (
	measureReloads = flag.Int("handover.reloads", 0, "measure what clients lose over `N` reloads of stock Caddy and of one with the wrapper")
	measureRuns    = flag.Int("handover.runs", 1, "how often to measure each")
)

// TestMeasureLosses prints the table of docs/reloads.md:
//
//	go test ./caddymodule/handover -run Measure -v -handover.reloads 50 -handover.runs 3
//
// Half of the reloads change the configuration, the others load the same again.
func TestMeasureLosses(t *testing.T) {
	if *measureReloads == 0 {
		return // TestReloadsLoseNothing asserts; this one measures
	}
	for run := range *measureRuns {
		for _, tr := range traffics {
			for _, wrapper := range []string{"", "listener_wrappers {\nhandover\n}"} {
				t.Run("", func(t *testing.T) {
					node := newEcho(t)
					c := caddyrun.Start(t, config(wrapper, node, 0))
					o := underReloads(tr, tr.target(c), func() {
						time.Sleep(200 * time.Millisecond)
						for n := range *measureReloads {
							c.Reload(config(wrapper, node, n/2))
							time.Sleep(100 * time.Millisecond)
						}
					})
					name := "handover"
					if wrapper == "" {
						name = "stock"
					}
					t.Logf("run %d, %-25s %-9s %v, run twice: %d", run, tr.name, name, o, node.twice.Load())
				})
			}
		}
	}
}
