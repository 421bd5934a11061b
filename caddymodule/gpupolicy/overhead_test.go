//go:build unix

package gpupolicy

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// BenchmarkOverhead compares the CPU time that Caddy takes for a request under
// this policy with stock least_conn, in front of the same two nodes. Client
// and nodes run in this process, too; what they take is measured without Caddy
// and subtracted. All take turns, and the median over the turns is reported:
// cpu-ratio is the figure to watch, and hedging-ratio the same where requests
// may be hedged, though none is.
func BenchmarkOverhead(b *testing.B) {
	one, two := newUpstream(b), newUpstream(b)
	config := func(name, policy string) string {
		return fmt.Sprintf("http://ADDR_%s {\n\treverse_proxy %s %s {\n\t\tlb_policy %s\n\t}\n}\n", name, one.addr, two.addr, policy)
	}
	c := caddyrun.Start(b, config("GPU", "gpu")+config("STOCK", "least_conn")+config("HEDGING", "gpu\n\t\tlb_retries 1"))
	cl := client(b)
	urls := []string{"http://" + one.addr, c.URL("STOCK"), c.URL("GPU"), c.URL("HEDGING")}
	var took [4][]float64
	const turn = 300
	for b.Loop() {
		for i, url := range urls {
			before := cpuTime(b)
			requests(b, turn, func() reply { return fetch(cl, url) })
			took[i] = append(took[i], (cpuTime(b)-before).Seconds()*1e6/turn)
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	median := func(i int) float64 { return took[i][len(took[i])/2] }
	direct, stock, gpu, hedging := median(0), median(1), median(2), median(3)
	b.ReportMetric(stock-direct, "stock-cpu-µs/request")
	b.ReportMetric(gpu-direct, "gpu-cpu-µs/request")
	b.ReportMetric((gpu-direct)/(stock-direct), "cpu-ratio")
	b.ReportMetric((hedging-direct)/(stock-direct), "hedging-ratio")
}

// requests makes n requests from 8 clients.
func requests(b *testing.B, n int, do func() reply) {
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for range (n + 7 - w) / 8 {
				if r := do(); r.status != 200 {
					b.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
}

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
