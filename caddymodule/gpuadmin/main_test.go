package gpuadmin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

// node is a model node that takes 5 ms.
type node struct {
	addr string
	hits atomic.Int64
}

func newNode(t testing.TB) *node {
	n := new(node)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.hits.Add(1)
		time.Sleep(5 * time.Millisecond)
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(s.Close)
	n.addr = s.Listener.Addr().String()
	t.Cleanup(func() {
		gpupolicy.Resume(n.addr) // orders outlive the test's Caddy
		gpupolicy.SetWeight(n.addr, 0)
	})
	return n
}

// gateway is a Caddyfile with an admin endpoint and a handler for the upstreams.
func gateway(upstreams ...string) string {
	return fmt.Sprintf("{\n\tadmin ADDR_ADMIN\n}\nhttp://ADDR_GW {\n\treverse_proxy %s {\n\t\tlb_policy gpu\n\t\tlb_retries 2\n\t}\n}\n",
		strings.Join(upstreams, " "))
}

func start(t testing.TB, caddyfile string) *caddyrun.Instance {
	t.Helper()
	c := caddyrun.Start(t, caddyfile)
	t.Cleanup(func() { c.Reload("http://ADDR_GW {\n}\n") }) // caddy.Stop leaves the admin endpoint open
	return c
}

func newClient(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// ask sends a request to the admin endpoint. A reload replaces the endpoint,
// and a connection that meets the old one's end is tried anew.
func ask(t testing.TB, c *caddyrun.Instance, method, path, body string) (*http.Response, string) {
	t.Helper()
	var err error
	for range 5 {
		req, _ := http.NewRequest(method, c.URL("ADMIN")+path, strings.NewReader(body))
		req.Close = true
		var resp *http.Response
		if resp, err = newClient(t).Do(req); err == nil {
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return resp, string(data)
		}
	}
	t.Fatal(err)
	return nil, ""
}

func status(t testing.TB, c *caddyrun.Instance, addr string) (s gpupolicy.Status) {
	t.Helper()
	_, body := ask(t, c, "GET", "/gpu/nodes/"+addr, "")
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return s
}

// load keeps clients busy until stop is called, which returns what a client
// got that was not 200. Connections that broke are counted apart: a reload may
// close one while a client writes to it.
func load(t testing.TB, url string, clients int) (stop func() (bad []int), broken *atomic.Int64) {
	broken = new(atomic.Int64)
	ctx, cancel := context.WithCancel(t.Context())
	c := newClient(t)
	var mu sync.Mutex
	var bad []int
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				resp, err := c.Get(url)
				if err != nil {
					broken.Add(1)
					continue
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 {
					mu.Lock()
					bad = append(bad, resp.StatusCode)
					mu.Unlock()
				}
			}
		})
	}
	return func() []int {
		cancel()
		wg.Wait()
		return bad
	}, broken
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 30 s for: %s", what)
		}
	}
}
