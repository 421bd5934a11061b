package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// openDashboard opens the page of a gateway with three nodes, of which the first
// can be told to fail; each answers and tells of a GPU.
func openDashboard(t *testing.T) (b *browser, gateway string, nodes []string, failing *atomic.Bool) {
	t.Helper()
	failing = new(atomic.Bool)
	for i := range 3 {
		node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/gpu-status":
				_, _ = w.Write([]byte(`{"gpu_utilization_percent":` + []string{"42", "55", "47"}[i] + `,"gpu_usage_percent":` + []string{"31", "64", "92"}[i] +
					`,"devices":[{"index":0,"temperature_c":` + []string{"51", "68", "83"}[i] + `}]}`))
			case i == 0 && failing.Load():
				w.WriteHeader(http.StatusInternalServerError)
			default:
				time.Sleep(5 * time.Millisecond) // so that differences are chance, and all get requests
				_, _ = w.Write([]byte("{}"))
			}
		}))
		t.Cleanup(node.Close)
		nodes = append(nodes, node.Listener.Addr().String())
	}
	b = openBrowser(t)
	addrs := runCaddy(t, `
{
	admin ADDR_ADMIN
}
http://ADDR_GATEWAY {
	gpu_dashboard /nodes {
		interval 100ms
		orders ADDR_ADMIN
	}
	reverse_proxy `+strings.Join(nodes, " ")+` {
		lb_policy gpu {
			telemetry json http://{node.host}:{node.port}/gpu-status
			interval 200ms
			eject 1 failures
			slow_start 1s
		}
	}
}`)
	gateway = "http://" + addrs["ADDR_GATEWAY"]
	t.Cleanup(func() { b.settled(gateway) })
	return b, gateway, nodes, failing
}

// asks sends requests until the page shows what it is to show.
func (b *browser) asks(gateway, until string) {
	b.t.Helper()
	done := make(chan struct{})
	var askers sync.WaitGroup
	for range 6 { // at a time, so that one node does not do for all
		askers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if resp, err := http.Get(gateway + "/predict"); err == nil {
						_ = resp.Body.Close()
					}
				}
			}
		})
	}
	defer func() { close(done); askers.Wait() }()
	b.until(until)
}

const rowOf = `document.querySelector('tr[data-key="NODE"]')`

func TestDashboardFollowsWhatHappens(t *testing.T) {
	b, gateway, nodes, failing := openDashboard(t)
	b.look(1400, "dark")
	b.do(chromedp.Navigate(gateway+"/nodes/"), chromedp.WaitVisible(chromedp.CSS(".nodes")))
	row := strings.ReplaceAll(rowOf, "NODE", nodes[0])
	b.asks(gateway, row+`.className.includes("state-up") && `+row+`.innerText.includes("42 %") && document.querySelectorAll("main details").length > 3`)
	// Marked on the page: an update must not lose what the reader has opened.
	b.run(`document.querySelector("main details").open = true; document.querySelector("main details").id = "mine"`)

	failing.Store(true)
	b.asks(gateway, row+`.className.includes("state-ejected")`)
	b.until(row + `.querySelector(".badge").textContent === "ejected"`)
	failing.Store(false)
	b.asks(gateway, row+`.className.includes("state-up")`)

	// The reader takes a node out, by the keyboard, and puts it back.
	b.do(chromedp.Focus(chromedp.CSS(`tr[data-key="`+nodes[1]+`"] button`)), chromedp.KeyEvent("\r"))
	drained := strings.ReplaceAll(rowOf, "NODE", nodes[1])
	b.until(drained + `.className.includes("state-drained") && ` + drained + `.innerText.includes("drained by order")`)
	if !eval[bool](b, `document.activeElement === `+drained+`.querySelector("button")`) {
		t.Error("the button has lost the focus")
	}
	b.do(chromedp.KeyEvent("\r"))
	b.until(`!` + drained + `.className.includes("drain")`)

	for _, theme := range []string{"dark", "light"} {
		b.look(1200, theme)
		b.asks(gateway, `document.querySelectorAll(".spark polyline[points]").length > 0`)
		b.run(`document.querySelectorAll("main details")[0].open = true`)
		axe(t, b)
		b.picture("gpu_dashboard-" + theme)
	}
	b.look(360, "light")
	if !eval[bool](b, `document.documentElement.scrollWidth <= 360`) {
		t.Error("the page is wider than a telephone")
	}
	b.picture("gpu_dashboard-narrow")
}

func TestDashboardWithoutScriptIsATable(t *testing.T) {
	b, gateway, nodes, _ := openDashboard(t)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.look(1400, "light")
	b.do(chromedp.Navigate(gateway+"/nodes/"), chromedp.WaitVisible(chromedp.CSS(".nodes")))
	html, err := chromedp.Run(b.ctx, chromedp.OuterHTML(chromedp.CSS("main")))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if !strings.Contains(html, n) {
			t.Errorf("the table lacks %s", n)
		}
	}
}
