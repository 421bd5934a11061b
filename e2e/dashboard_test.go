package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

// gpuNode is a model node that tells of its GPU, until it is told to fail or to
// fall silent.
type gpuNode struct {
	addr             string
	failing, silent  atomic.Bool
	hits             atomic.Int64 // of requests that it answered well
	use, memory      float64      // percent
	temperature, pow float64
}

func (n *gpuNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/gpu" && n.silent.Load():
		w.WriteHeader(http.StatusInternalServerError)
	case r.URL.Path == "/gpu":
		reply(w, map[string]any{
			"timestamp": time.Now(), "gpu_utilization_percent": n.use, "gpu_usage_percent": n.memory, "queue": 0,
			"devices": []any{map[string]any{"name": "GPU", "utilization_percent": n.use, "temperature_c": n.temperature, "power_w": n.pow}},
		})
	case n.failing.Load():
		w.WriteHeader(http.StatusInternalServerError)
	default:
		n.hits.Add(1)
		time.Sleep(10 * time.Millisecond) // all alike, so that each gets requests
		reply(w, map[string]any{"text": "", "output": []entity{}})
	}
}

// gpuCluster is a gateway with a dashboard before four nodes.
type gpuCluster struct {
	*browser
	origin string
	nodes  []*gpuNode
	load   func() // loads the configuration (again)
}

const dashboardGateway = `
{
	admin ADDR_ADMIN
}
http://ADDR_GATEWAY {
	gpu_dashboard /gpu {
		interval 200ms
		OPTIONS
	}
	reverse_proxy NODES {
		lb_policy gpu {
			interval   100ms
			telemetry  json http://{node.host}:{node.port}/gpu
			eject      1 failures
			slow_start 1s
			queue      100 1s
		}
	}
}`

func openDashboard(t *testing.T, options string) *gpuCluster {
	t.Helper()
	c := &gpuCluster{browser: openBrowser(t)}
	var list []string
	for i := range 4 {
		n := &gpuNode{use: float64(82 - 21*i), memory: float64(76 - 17*i), temperature: float64(71 - 6*i), pow: float64(244 - 40*i)}
		// Each on an address of its own, as hosts are.
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", 11+i))
		if err != nil { // a system with one loopback address
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(n)
		s.Listener.Close()
		s.Listener = l
		s.Start()
		t.Cleanup(s.Close)
		n.addr = l.Addr().String()
		t.Cleanup(func() { _, _ = gpupolicy.Resume(n.addr) }) // orders outlive Caddy's configurations
		c.nodes = append(c.nodes, n)
		list = append(list, n.addr)
	}
	config, addrs := adaptCaddy(t, strings.NewReplacer("NODES", strings.Join(list, " "), "OPTIONS", options).Replace(dashboardGateway))
	c.load = func() {
		t.Helper()
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
	}
	c.load()
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping caddy: %v", err)
		}
	})
	c.origin = "http://" + addrs["ADDR_GATEWAY"]
	t.Cleanup(func() { c.settled(c.origin) })
	c.look(1280, "dark")
	return c
}

// askAll keeps clients busy until the test ends or stop is called.
func (c *gpuCluster) askAll(t *testing.T) (stop func()) {
	t.Helper()
	var over atomic.Bool
	var ended []chan struct{}
	for range 4 {
		done := make(chan struct{})
		ended = append(ended, done)
		go func() {
			defer close(done)
			for !over.Load() {
				if resp, err := http.Get(c.origin + "/predict"); err == nil {
					resp.Body.Close()
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
	stop = func() {
		over.Store(true)
		for _, done := range ended {
			<-done
		}
	}
	t.Cleanup(stop)
	return stop
}

func row(n *gpuNode) string {
	return fmt.Sprintf(`document.querySelector('tr[data-key="%s"]')`, n.addr)
}

// shows waits until the page shows a node in one of some states.
func (c *gpuCluster) shows(n *gpuNode, states ...string) {
	c.t.Helper()
	var any []string
	for _, s := range states {
		any = append(any, row(n)+`?.classList.contains("state-`+s+`")`)
	}
	c.until(strings.Join(any, " || "))
}

// nodeToFail returns a node that gets requests now, for only such a one can fail
// them, and another one, neither of them the one that is drained.
func (c *gpuCluster) nodeToFail(drained *gpuNode) (busy, other *gpuNode) {
	c.t.Helper()
	before := make(map[*gpuNode]int64)
	for _, n := range c.nodes {
		before[n] = n.hits.Load()
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, n := range c.nodes {
			if n == drained || n.hits.Load() < before[n]+20 {
				continue
			}
			if n == c.nodes[3] {
				return n, c.nodes[2]
			}
			return n, c.nodes[3]
		}
	}
	c.t.Fatal("no node gets requests")
	return nil, nil
}

func drain(t *testing.T, n *gpuNode) {
	t.Helper()
	if _, err := gpupolicy.Drain(n.addr); err != nil {
		t.Fatal(err)
	}
}

func TestDashboardFollowsADrainAnEjectionAndARecovery(t *testing.T) {
	c := openDashboard(t, "")
	c.askAll(t)
	c.do(chromedp.Navigate(c.origin+"/gpu/"), chromedp.WaitVisible(chromedp.CSS("tr[data-key]")))
	// The page itself stays: what it shows comes by events.
	c.run(`window.stayed = true`)
	for _, n := range c.nodes {
		c.shows(n, "up", "slow_start")
	}
	if n := eval[int](c.browser, `document.querySelectorAll("form").length`); n != 0 {
		t.Errorf("%d forms for orders that nobody allowed", n)
	}

	if os.Getenv("E2E_SCREENSHOTS") != "" {
		time.Sleep(12 * time.Second) // lines as of a page that has been open for a while
	}
	drained := c.nodes[1]
	drain(t, drained)
	c.shows(drained, "draining", "drained")
	c.until(row(drained) + `.querySelector(".why-state").innerText.match("drained by order|its last request ended")`)
	ejected, silent := c.nodeToFail(drained)
	ejected.failing.Store(true)
	c.shows(ejected, "ejected")
	silent.silent.Store(true)
	c.until(row(silent) + `.classList.contains("stale")`)
	if text := eval[string](c.browser, row(ejected)+`.innerText`); !strings.Contains(text, "failures") {
		t.Errorf("no reason for the ejection in %q", text)
	}
	if text := eval[string](c.browser, row(silent)+`.innerText`); !strings.Contains(text, "stale") {
		t.Errorf("no age of what no longer counts in %q", text)
	}
	if news := eval[string](c.browser, `document.getElementById("news").textContent`); !strings.Contains(news, ejected.addr) {
		t.Errorf("screen readers hear %q", news)
	}
	// Red with the reason, grey with the age: as drawn.
	for theme, want := range map[string][]string{
		"dark":  {"rgb(255, 128, 128)", "rgb(255, 128, 128)", "rgb(163, 163, 186)"},
		"light": {"rgb(179, 38, 30)", "rgb(179, 38, 30)", "rgb(86, 86, 105)"},
	} {
		c.look(1280, theme)
		for i, element := range []string{row(ejected) + `.querySelector(".badge")`, row(ejected) + `.querySelector(".why-state")`, row(silent) + `.querySelector(".gpu")`} {
			c.until(`getComputedStyle(` + element + `).color === "` + want[i] + `"`) // it may be tried just now
		}
		c.run(`document.querySelector("section details").open = true`)
		c.pictureOfWindow("gpu_dashboard-" + theme)
	}

	ejected.failing.Store(false)
	c.shows(ejected, "slow_start", "up") // once its ejection is over
	silent.silent.Store(false)
	c.until(`!` + row(silent) + `.classList.contains("stale")`)
	if _, err := gpupolicy.Resume(drained.addr); err != nil {
		t.Fatal(err)
	}
	c.shows(drained, "up") // beyond its slow start
	if !eval[bool](c.browser, `window.stayed`) {
		t.Error("the page was loaded anew")
	}
}

// What a reader has opened, chosen or stopped is not taken from them.
func TestDashboardLeavesReadersInPeace(t *testing.T) {
	c := openDashboard(t, "")
	c.askAll(t)()
	if _, err := http.Get(c.origin + "/predict"); err != nil {
		t.Fatal(err)
	}
	c.do(chromedp.Navigate(c.origin+"/gpu/"), chromedp.WaitVisible(chromedp.CSS("section summary")))
	c.do(chromedp.Focus(chromedp.CSS("section summary")), chromedp.KeyEvent(kb.Enter))
	c.until(`document.querySelector("section details").open && document.activeElement.matches("summary")`)
	const shown = `document.querySelector(".facts time").textContent`
	before := eval[string](c.browser, shown)
	c.until(shown + ` !== ` + fmt.Sprintf("%q", before))
	if !eval[bool](c.browser, `document.querySelector("section details").open && document.activeElement.matches("summary")`) {
		t.Error("an update closed what was open, or took the focus")
	}
	why := eval[string](c.browser, `document.querySelector("section details").innerText`)
	for _, want := range []string{c.nodes[0].addr, c.nodes[3].addr, "eligible", "Score", "Load"} {
		if !strings.Contains(why, want) {
			t.Errorf("the reasons lack %q: %s", want, why)
		}
	}
	c.do(chromedp.Focus(chromedp.CSS("#pause")), chromedp.KeyEvent(kb.Enter))
	c.until(`document.getElementById("pause").getAttribute("aria-pressed") === "true"`)
	before = eval[string](c.browser, shown)
	time.Sleep(1500 * time.Millisecond) // seven updates of a page that goes on
	if after := eval[string](c.browser, shown); after != before {
		t.Error("a paused page goes on")
	}
	c.run(`document.getElementById("pause").click()`)
	c.until(shown + ` !== ` + fmt.Sprintf("%q", before))

	c.run(`document.getElementById("theme").click()`)
	if got := eval[string](c.browser, `getComputedStyle(document.body).backgroundColor`); got != "rgb(245, 245, 249)" {
		t.Errorf("switched to light, the page is %s", got)
	}
}

func TestDashboardConnectsAgainAfterAReload(t *testing.T) {
	c := openDashboard(t, "")
	c.do(chromedp.Navigate(c.origin+"/gpu/"), chromedp.WaitVisible(chromedp.CSS("tr[data-key]")))
	c.run(`window.stayed = true`)
	streams := func() (n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, url := range c.requests {
			if strings.Contains(url, "/events") {
				n++
			}
		}
		return n
	}
	const shown = `document.querySelector(".facts time").textContent`
	before := eval[string](c.browser, shown)
	c.until(shown + ` !== ` + fmt.Sprintf("%q", before)) // the stream is open
	c.load()
	drain(t, c.nodes[0])
	c.shows(c.nodes[0], "drained")
	// What it shows may have come by the old stream; the new one comes by itself.
	for end := time.Now().Add(30 * time.Second); streams() < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the page did not connect again")
		}
	}
	if _, err := gpupolicy.Resume(c.nodes[0].addr); err != nil {
		t.Fatal(err)
	}
	c.shows(c.nodes[0], "up")
	c.until(`document.getElementById("lost").hidden`)
	if !eval[bool](c.browser, `window.stayed`) {
		t.Error("the page was loaded anew")
	}
}

func TestDashboardTakesOrdersWhereTheyAreAllowed(t *testing.T) {
	c := openDashboard(t, "orders ADDR_ADMIN")
	c.do(chromedp.Navigate(c.origin+"/gpu/"), chromedp.WaitVisible(chromedp.CSS("form button")))
	n := c.nodes[0]
	c.run(row(n) + `.querySelector("button").focus()`)
	c.do(chromedp.KeyEvent(kb.Enter))
	c.shows(n, "drained")
	c.until(row(n) + `.querySelector("button").innerText === "Resume"`)
	if !eval[bool](c.browser, `document.activeElement === `+row(n)+`.querySelector("button")`) {
		t.Error("the button has lost the focus")
	}
	c.run(row(n) + `.querySelector("button").click()`)
	c.shows(n, "slow_start", "up")

	// The same by a form alone.
	call(c.browser, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	c.do(chromedp.Reload(), chromedp.WaitVisible(chromedp.CSS("form button")))
	c.do(chromedp.Click(chromedp.CSS(`tr[data-key="` + n.addr + `"] button`)))
	c.do(chromedp.WaitVisible(chromedp.CSS(`tr[data-key="` + n.addr + `"].state-drained`)))
}

func TestDashboardIsATableWithoutScript(t *testing.T) {
	c := openDashboard(t, "")
	c.askAll(t)()
	drain(t, c.nodes[1])
	call(c.browser, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	c.do(chromedp.Navigate(c.origin + "/gpu/"))
	text, err := chromedp.Run(c.ctx, chromedp.Text(chromedp.CSS("main")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{c.nodes[0].addr, c.nodes[3].addr, "drained by order", "82 %", "71 °C"} {
		if !strings.Contains(text, want) {
			t.Errorf("without script the page lacks %q: %s", want, text)
		}
	}
	c.picture("gpu_dashboard-noscript")

	req, _ := http.NewRequest(http.MethodGet, c.origin+"/gpu/", nil)
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var twin struct{ Nodes []gpupolicy.Status }
	if err := json.NewDecoder(resp.Body).Decode(&twin); err != nil || len(twin.Nodes) != 4 || twin.Nodes[1].State != "drained" {
		t.Errorf("%v: the twin has %+v", err, twin.Nodes)
	}
}

func TestDashboardServesEveryWindowAndUsersOfAssistiveTechnology(t *testing.T) {
	c := openDashboard(t, "orders ADDR_ADMIN")
	stop := c.askAll(t)
	c.do(chromedp.Navigate(c.origin+"/gpu/"), chromedp.WaitVisible(chromedp.CSS("form button")))
	drain(t, c.nodes[1])
	ejected, silent := c.nodeToFail(c.nodes[1])
	ejected.failing.Store(true)
	c.shows(ejected, "ejected")
	silent.silent.Store(true)
	c.until(row(silent) + `.classList.contains("stale")`)
	stop()
	c.run(`document.getElementById("pause").click(); document.querySelectorAll("details").forEach((d) => d.open = true)`)
	for _, width := range []int64{360, 768, 1280} {
		for _, theme := range []string{"dark", "light"} {
			c.look(width, theme)
			if got := eval[int64](c.browser, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("the page is %d px wide in a window of %d", got, width)
			}
			axe(t, c.browser)
			c.pictureOfWindow(fmt.Sprintf("gpu_dashboard-%d-%s", width, theme))
		}
	}
	c.do(chromedp.Navigate(c.origin + "/gpu/?lang=zh"))
	c.until(`document.documentElement.lang === "zh" && document.querySelector("main").innerText.includes("已下线")`)
	c.look(1280, "light")
	c.picture("gpu_dashboard-zh")
}
