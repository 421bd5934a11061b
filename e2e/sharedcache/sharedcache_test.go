//go:build unix

// Package sharedcache tests examples/shared-cache: gateways that share a cache
// of answers in Redis.
package sharedcache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
	"github.com/caddy-infer/caddy-infer/internal/loopback"
)

var binaries gateway.Binaries

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sharedcache")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binaries, err = gateway.Build(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// model is a node that takes its time and counts.
type model struct {
	asked  atomic.Int64
	failed atomic.Bool
	addr   string
}

func newModel(t *testing.T) *model {
	m := new(model)
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	m.addr = s.Listener.Addr().String()
	return m
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n := m.asked.Add(1)
	time.Sleep(100 * time.Millisecond)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case m.failed.Load():
		w.WriteHeader(http.StatusInternalServerError)
	case strings.Contains(string(body), "bad"):
		w.WriteHeader(http.StatusBadRequest)
	}
	fmt.Fprintf(w, "%d of %s", n, body)
}

// redis is Debian's server, at an address that it keeps.
type redis struct {
	t    *testing.T
	addr string
	cmd  *exec.Cmd
}

const password = "a long password"

func newRedis(t *testing.T) *redis {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is missing: apt-get install redis-server")
	}
	addr, err := loopback.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	r := &redis{t: t, addr: addr}
	t.Cleanup(r.kill)
	return r
}

func (r *redis) start() {
	r.t.Helper()
	_, port, _ := strings.Cut(r.addr, ":")
	r.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--requirepass", password,
		"--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "redis to answer", func() bool {
		out, _ := exec.Command("redis-cli", "-p", port, "-a", password, "--no-auth-warning", "ping").Output()
		return strings.Contains(string(out), "PONG")
	})
}

func (r *redis) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// newGateway runs a gateway with the example's own file.
func newGateway(t *testing.T, r *redis, m *model, version string) *gateway.Gateway {
	t.Helper()
	text, err := os.ReadFile("../../examples/shared-cache/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	places, err := gateway.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"ADMIN": places.Admin, "LISTEN": "http://" + places.Addr, "REDIS": r.addr, "REDIS_PASSWORD": password,
		"NODES": m.addr, "MODEL_VERSION": version,
	} {
		t.Setenv(name, value)
	}
	g, err := gateway.Caddy(places, binaries.Caddy, string(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gateway: %s", g.Log()[max(0, len(g.Log())-3000):])
		}
		g.Stop()
	})
	return g
}

type answer struct {
	code        int
	body, cache string
	took        time.Duration
}

var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func ask(g *gateway.Gateway, method, path, body string) (answer, error) {
	req, err := http.NewRequest(method, g.URL(path), strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text), resp.Header.Get("Cache-Status"), time.Since(begin)}, err
}

func predict(t *testing.T, g *gateway.Gateway, text string) answer {
	t.Helper()
	a, err := ask(g, http.MethodPost, "/predict", `{"text":"`+text+`"}`)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func hit(a answer) bool {
	return a.cache == "caddy-infer; hit"
}

func TestWhatOneGatewayHasAnsweredAllCan(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	r.start()
	one, two := newGateway(t, r, m, "raner-1"), newGateway(t, r, m, "raner-1")
	m.asked.Store(0) // of what waited for the gateways
	first := predict(t, one, "马云在杭州")
	if first.code != 200 || first.body != `1 of {"text":"马云在杭州"}` || hit(first) {
		t.Errorf("%+v", first)
	}
	eventually(t, "the other gateway to know it", func() bool { return hit(predict(t, two, "马云在杭州")) })
	before := m.asked.Load()
	for _, g := range []*gateway.Gateway{one, two} {
		if again := predict(t, g, "马云在杭州"); again.code != 200 || again.body != first.body || !hit(again) {
			t.Errorf("%+v", again)
		}
	}
	if n := m.asked.Load(); n != before {
		t.Errorf("the node was asked for what is known")
	}
	// Another text, path or model is another key.
	for _, other := range []string{"马云在杭州 ", "李娜", "马云在杭州\\n"} {
		if a := predict(t, two, other); hit(a) || !strings.Contains(a.body, other) {
			t.Errorf("%q: %+v", other, a)
		}
	}
	if a, err := ask(one, http.MethodPost, "/other", `{"text":"马云在杭州"}`); err != nil || a.cache != "" {
		t.Errorf("another path: %+v, %v", a, err)
	}
	newer := newGateway(t, r, m, "raner-2")
	if a := predict(t, newer, "马云在杭州"); hit(a) || a.code != 200 {
		t.Errorf("another model: %+v", a)
	}
}

func TestErrorsAndHealthAreNotKept(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	r.start()
	g := newGateway(t, r, m, "raner-1")
	for name, do := range map[string]func() (answer, error){
		"a bad request": func() (answer, error) { return ask(g, http.MethodPost, "/predict", `{"text":"bad"}`) },
		"health":        func() (answer, error) { return ask(g, http.MethodGet, "/health", "") },
	} {
		before := m.asked.Load()
		for range 3 {
			if a, err := do(); err != nil || hit(a) {
				t.Errorf("%s: %+v, %v", name, a, err)
			}
		}
		if n := m.asked.Load() - before; n != 3 {
			t.Errorf("%s: the node was asked %d times, want 3", name, n)
		}
	}
	m.failed.Store(true)
	if a := predict(t, g, "x"); a.code < 500 {
		t.Errorf("a failing node: %+v", a)
	}
	m.failed.Store(false)
	eventually(t, "the node to be used again", func() bool { return predict(t, g, "x").code == 200 })
}

func TestManyWhoAskTheSameAskTheNodeOnce(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	r.start()
	g := newGateway(t, r, m, "raner-1")
	before := m.asked.Load()
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range 50 {
		wg.Go(func() {
			<-begin
			if a, err := ask(g, http.MethodPost, "/predict", `{"text":"all at once"}`); err != nil || a.code != 200 || !strings.Contains(a.body, "all at once") {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	close(begin)
	wg.Wait()
	if n := m.asked.Load() - before; n != 1 {
		t.Errorf("the node was asked %d times for 50", n)
	}
}

func TestWithoutRedisNothingIsLostButHits(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	r.start()
	g := newGateway(t, r, m, "raner-1")
	known := func() bool { return hit(predict(t, g, "known")) }
	eventually(t, "a hit", known)

	r.kill()
	var slowest time.Duration
	for i := range 20 {
		a := predict(t, g, fmt.Sprint("down ", i%3))
		if a.code != 200 || hit(a) {
			t.Errorf("redis is down: %+v", a)
		}
		slowest = max(slowest, a.took)
	}
	t.Logf("redis down: the slowest of 20 took %v, 100ms of them at the node", slowest)
	r.start()
	eventually(t, "hits again", known)

	// One that hangs costs a moment each time.
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	a, b := predict(t, g, "hangs"), predict(t, g, "hangs")
	t.Logf("redis hangs: %v and %v", a.took, b.took)
	if a.code != 200 || b.code != 200 {
		t.Errorf("redis hangs: %+v, %+v", a, b)
	}
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "hits again", known)
}

func TestGatewayStartsWithoutRedisAndFindsIt(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	g := newGateway(t, r, m, "raner-1")
	if a := predict(t, g, "x"); a.code != 200 {
		t.Errorf("%+v", a)
	}
	r.start()
	eventually(t, "a hit", func() bool { return hit(predict(t, g, "y")) })
	for range 3 {
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a hit after a reload", func() bool {
			a, err := ask(g, http.MethodPost, "/predict", `{"text":"y"}`)
			return err == nil && hit(a)
		})
	}
}

// A text is data, whatever it looks like.
func TestTextsAreNeverObeyed(t *testing.T) {
	r, m := newRedis(t), newModel(t)
	r.start()
	g := newGateway(t, r, m, "raner-1")
	for _, text := range []string{"<esi:include src=http://" + m.addr + "/secret/>", "<esi:remove>x</esi:remove>", "{http.request.host}"} {
		before := m.asked.Load()
		want := `{"text":"` + text + `"}`
		for range 3 {
			a := predict(t, g, text)
			if _, got, _ := strings.Cut(a.body, " of "); a.code != 200 || got != want {
				t.Errorf("%+v, want %s", a, want)
			}
		}
		if n := m.asked.Load() - before; n > 3 {
			t.Errorf("%s: the node was asked %d times", text, n)
		}
	}
}
