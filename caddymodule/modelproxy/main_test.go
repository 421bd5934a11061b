package modelproxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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

func TestAdapt(t *testing.T) { caddyrun.Golden(t, "testdata/adapt") }

// node is a model server that a test can break and kill. It counts each id
// that a POST brings, once the body is there.
type node struct {
	addr   string
	answer atomic.Pointer[http.HandlerFunc]
	health atomic.Pointer[http.HandlerFunc]

	mu     sync.Mutex
	server *http.Server
	ran    map[string]int
}

func newNode(t *testing.T) *node {
	n := &node{addr: caddyrun.FreeAddr(t), ran: make(map[string]int)}
	n.start(t)
	t.Cleanup(n.kill)
	return n
}

func (n *node) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", n.addr)
	for end := time.Now().Add(10 * time.Second); err != nil; l, err = net.Listen("tcp", n.addr) {
		if time.Now().After(end) { // until then a connection may have the port for its own end
			t.Error(err)
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server = &http.Server{Handler: n, Protocols: new(http.Protocols)}
	n.server.Protocols.SetHTTP1(true)
	n.server.Protocols.SetUnencryptedHTTP2(true)
	go n.server.Serve(l)
}

// kill closes the node and every connection to it at once.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server.Close()
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/health" {
		if h := n.health.Load(); h != nil {
			(*h)(w, r)
		}
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n.mu.Lock()
	n.ran[string(body)]++
	n.mu.Unlock()
	if h := n.answer.Load(); h != nil {
		(*h)(w, r)
		return
	}
	fmt.Fprint(w, n.addr)
}

func (n *node) answers(h http.HandlerFunc) { n.answer.Store(&h) }
func (n *node) healthy(h http.HandlerFunc) { n.health.Store(&h) }

// times returns how often the body was run.
func (n *node) times(body string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ran[body]
}

func (n *node) runs() (sum int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, times := range n.ran {
		sum += times
	}
	return sum
}

// dies breaks the connection off without an answer.
func dies(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func says(code int, text string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}
}

// proxy is a Caddyfile with one model_proxy, and a model named ner.
func proxy(options string, to ...*node) string {
	var addrs []string
	for _, n := range to {
		addrs = append(addrs, n.addr)
	}
	return fmt.Sprintf(`{
	metrics
	inference {
		model ner builtin/ner-zh
	}
}
http://ADDR_GW {
	metrics /metrics
	model_proxy %s {
		%s
	}
}
`, strings.Join(addrs, " "), strings.ReplaceAll(options, "\n", "\n\t\t"))
}

type reply struct {
	status int
	body   string
	header http.Header
	err    error
}

func client(t *testing.T) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func send(c *http.Client, method, url, body string) reply {
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(text), resp.Header, err}
}

// status is what the admin API says of the node.
func (n *node) status(t *testing.T) gpupolicy.Status {
	t.Helper()
	s, err := gpupolicy.Node(n.addr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waited 15 s for: %s", what)
		}
	}
}
