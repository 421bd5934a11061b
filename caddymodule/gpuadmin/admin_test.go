package gpuadmin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

func TestDrainUnderLoadAndReloadsLosesNothing(t *testing.T) {
	a, b := newNode(t), newNode(t)
	one := gateway(a.addr, b.addr)
	config := one + strings.Replace(one[strings.Index(one, "http://"):], "ADDR_GW", "ADDR_OTHER", 1)
	c := start(t, config)
	stop, broken := load(t, c.URL("GW"), 8)
	stopOther, brokenOther := load(t, c.URL("OTHER"), 8)
	eventually(t, "both nodes to serve", func() bool { return a.hits.Load() > 50 && b.hits.Load() > 50 })

	resp, body := ask(t, c, "POST", "/gpu/nodes/"+a.addr+"/drain", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || !strings.Contains(body, `"state":"drain`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	eventually(t, "the drain to end", func() bool { return status(t, c, a.addr).State == "drained" })
	// It has another reason if no request was under way.
	reason := status(t, c, a.addr).Reason
	if reason != "its last request ended" && reason != "drained by order" {
		t.Errorf("drained: %s", reason)
	}
	hits, served := a.hits.Load(), b.hits.Load()
	eventually(t, "the other node to carry on", func() bool { return b.hits.Load() > served+100 })
	if n := broken.Load() + brokenOther.Load(); n != 0 {
		t.Errorf("%d connections broke without a reload", n)
	}
	if x, y := status(t, c, a.addr).Picks["retry"], status(t, c, b.addr).Picks["retry"]; x+y != 0 {
		t.Errorf("%d requests had to be repeated", x+y)
	}
	for range 5 {
		served := b.hits.Load()
		c.Reload(config)
		eventually(t, "the other node to carry on", func() bool { return b.hits.Load() > served+50 })
		if s := status(t, c, a.addr); s.State != "drained" || s.InFlight != 0 || s.Reason != reason {
			t.Errorf("after a reload: %+v", s)
		}
	}
	if bad := append(stop(), stopOther()...); len(bad) != 0 {
		t.Errorf("clients got %v", bad)
	}
	if got := a.hits.Load() - hits; got != 0 {
		t.Errorf("%d requests to a drained node", got)
	}
	if _, body := ask(t, c, "POST", "/gpu/nodes/"+a.addr+"/resume", ""); !strings.Contains(body, `"state":"slow_start","reason":"resumed by order"`) {
		t.Error(body)
	}
	stop, _ = load(t, c.URL("GW"), 32)
	eventually(t, "the resumed node to serve", func() bool { return a.hits.Load() > hits })
	if bad := stop(); len(bad) != 0 {
		t.Errorf("clients got %v", bad)
	}
}

func TestOrderedWeightChangesShares(t *testing.T) {
	a, b := newNode(t), newNode(t)
	config := gateway(a.addr, b.addr)
	c := start(t, config)
	share := func() float64 {
		x, y := a.hits.Load(), b.hits.Load()
		stop, _ := load(t, c.URL("GW"), 20)
		eventually(t, "600 requests", func() bool { return a.hits.Load()+b.hits.Load() > x+y+600 })
		stop()
		x, y = a.hits.Load()-x, b.hits.Load()-y
		return float64(x) / float64(x+y)
	}
	// Which of two nodes alike is ahead is chance, and lasts for seconds.
	eventually(t, "both nodes to have requests", func() bool { x := share(); return x > 0.1 && x < 0.9 })
	_, body := ask(t, c, "PUT", "/gpu/nodes/"+a.addr+"/weight", `{"weight": 1000}`)
	if !strings.Contains(body, `"weight":1000,"configured_weight":1,"ordered_weight":1000`) {
		t.Error(body)
	}
	c.Reload(config)
	eventually(t, "the heavy node to have nearly all", func() bool { return share() > 0.95 })
	if _, body := ask(t, c, "DELETE", "/gpu/nodes/"+a.addr+"/weight", ""); !strings.Contains(body, `"weight":1,"configured_weight":1,"ordered_weight":null`) {
		t.Error(body)
	}
	eventually(t, "the other to have its part again", func() bool { return share() < 0.8 })
}

func TestAnswersOfTheAPI(t *testing.T) {
	const unix, ipv6, plain = "unix//run/model a.sock", "[fe80::1%25eth0]:8081", "10.0.0.9:8081"
	c := start(t, gateway(`"`+unix+`"`, "unix//run/b.sock", "[::1]:8081", plain))
	t.Cleanup(func() { gpupolicy.Resume(unix); gpupolicy.SetWeight(plain, 0); gpupolicy.Resume("[::1]:8081") })
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/gpu/nodes", "", 200, `"address":"10.0.0.9:8081","state":"up","reason":"in service","since":"20`},
		{"GET", "/gpu/nodes/", "", 200, `[{"address":"10.0.0.9:8081"`},
		{"GET", "/gpu/nodes/" + plain, "", 200, `"in_use":true,"in_flight":0,"latency_ms":null,"p50_ms":null,"p95_ms":null,"knee":null,"limit":null,"score":0.03,"factors":{"latency_ms":30,"slowdown":1,"load":1,"knee":1,"weight":1,"warmth":1},"weight":1,"configured_weight":1,"ordered_weight":null,"tier":1,"pool":1,"picks":{"best":0,"hedge":0,"panic":0,"probe":0,"retry":0,"spill":0,"sticky":0},"ejections":0,"failures":0,"telemetry":null}`},
		{"GET", "/gpu/nodes/http:%2F%2F10.0.0.9:8081", "", 200, `"address":"10.0.0.9:8081"`},
		{"POST", "/gpu/nodes/unix%2F%2Frun%2Fmodel%20a.sock/drain", "", 200, `"address":"unix//run/model a.sock","state":"drained"`},
		{"GET", "/gpu/nodes/unix%2F%2Frun%2Fmodel%20a.sock", "", 200, `"state":"drained","reason":"drained by order"`},
		{"POST", "/gpu/nodes/unix%2F%2Frun%2Fmodel%20a.sock/resume", "", 200, `"state":"slow_start","reason":"resumed by order"`},
		{"GET", "/gpu/nodes/unix//run/b.sock", "", 200, `"address":"unix//run/b.sock","state":"up"`}, // redirected to one slash
		{"POST", "/gpu/nodes/%5B::1%5D:8081/drain", "", 200, `"address":"[::1]:8081","state":"drained"`},
		{"POST", "/gpu/nodes/[::1]:8081/resume", "", 200, `"state":"slow_start"`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", "2.5", 200, `"weight":2.5,"configured_weight":1,"ordered_weight":2.5`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", "null", 200, `"weight":1,"configured_weight":1,"ordered_weight":null`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", "0", 400, `drain it instead`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", "-1", 400, `weight: -1 is not a number from 1e-06 to 1e+06`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", "", 400, `{"error":"reading weight:`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", `{"wait": 2}`, 400, `want a number, {\"weight\": a number}`},
		{"PUT", "/gpu/nodes/" + plain + "/weight", strings.Repeat(" ", 2000) + "1", 400, `more than 1024 bytes`},
		{"GET", "/gpu/nodes/10.0.0.8:8081", "", 404, `{"error":"no node \"10.0.0.8:8081\"; the nodes are 10.0.0.9:8081, [::1]:8081, unix//run/b.sock, unix//run/model a.sock"}`},
		{"POST", "/gpu/nodes/" + ipv6 + "/drain", "", 404, `no node \"[fe80::1%eth0]:8081\"`},
		{"POST", "/gpu/nodes/%00/drain", "", 404, `no node`},
		{"POST", "/gpu/nodes//drain", "", 404, ``},
		{"POST", "/gpu/nodes", "", 405, `{"error":"method POST is not allowed here: use GET, HEAD"}`},
		{"DELETE", "/gpu/nodes/" + plain, "", 405, `use GET, HEAD`},
		{"GET", "/gpu/nodes/" + plain + "/drain", "", 405, `use POST`},
		{"POST", "/gpu/nodes/" + plain + "/weight", "2", 405, `use PUT, DELETE`},
	} {
		resp, body := ask(t, c, tt.method, tt.path, tt.body)
		if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) || !json.Valid([]byte(body)) {
			t.Errorf("%s %s %s: %d %s\nwant %d %s", tt.method, tt.path, tt.body, resp.StatusCode, body, tt.status, tt.want)
		}
		if (tt.status == 405) != (resp.Header.Get("Allow") != "") {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, resp.Header.Get("Allow"))
		}
	}
}

// A node that a configuration no longer names is still there to be resumed.
func TestOrderIsSeenWithoutItsHandler(t *testing.T) {
	a, b := newNode(t), newNode(t)
	c := start(t, gateway(a.addr, b.addr))
	ask(t, c, "POST", "/gpu/nodes/"+a.addr+"/drain", "")
	c.Reload(gateway(b.addr))
	if s := status(t, c, a.addr); s.State != "drained" || s.InUse {
		t.Errorf("%+v", s)
	}
	if resp, body := ask(t, c, "POST", "/gpu/nodes/"+a.addr+"/resume", ""); resp.StatusCode != 200 || !strings.Contains(body, `"state":"slow_start"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := ask(t, c, "GET", "/gpu/nodes/"+a.addr, ""); resp.StatusCode != 404 {
		t.Errorf("a node with neither handler nor order: %d %s", resp.StatusCode, body)
	}
}

func TestForeignPagesMayNotGiveOrders(t *testing.T) {
	a := newNode(t)
	c := start(t, gateway(a.addr))
	req, _ := http.NewRequest("POST", c.URL("ADMIN")+"/gpu/nodes/"+a.addr+"/drain", nil)
	req.Header.Set("Origin", "http://elsewhere.example")
	resp, err := newClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
	if s := status(t, c, a.addr); s.State != "up" {
		t.Errorf("%+v", s)
	}
}

func FuzzWeight(f *testing.F) {
	for _, s := range []string{"2", "null", `{"weight":2}`, `{"weight":null}`, "{}", "1e999", `"2"`, "[2]", "2 2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w, err := readWeight(strings.NewReader(body))
		if err == nil && w == 0 && !strings.Contains(body, "null") {
			t.Errorf("%q was taken for an order to forget", body)
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add("/gpu/nodes/unix%2F%2Frun%2Fdrain/drain")
	f.Add("/gpu/nodes/%5B::1%5D:80/weight")
	f.Fuzz(func(t *testing.T, path string) {
		if _, verb, err := split(path); err == nil && verb != "" && !strings.HasSuffix(strings.TrimRight(path, "/"), verb) {
			t.Errorf("%q has no verb %q", path, verb)
		}
	})
}

func TestAddressesThatLookLikeVerbs(t *testing.T) {
	for path, want := range map[string][2]string{
		"/gpu/nodes/unix%2F%2Frun%2Fdrain":       {"unix//run/drain", ""},
		"/gpu/nodes/unix%2F%2Frun%2Fdrain/drain": {"unix//run/drain", "drain"},
		"/gpu/nodes/weight/weight":               {"weight", "weight"},
		"/gpu/nodes/drain":                       {"", "drain"},
		"/gpu/nodes/":                            {"", ""},
	} {
		if addr, verb, err := split(path); addr != want[0] || verb != want[1] || err != nil {
			t.Errorf("%s: %q, %q, %v", path, addr, verb, err)
		}
	}
}
