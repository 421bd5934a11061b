package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

// example is Caddyfile.example on free ports, so that the test runs beside
// whatever the machine already serves.
type example struct {
	text  string
	ports map[string]string // by the port in the file
}

func readExample(t *testing.T) example {
	t.Helper()
	raw, err := os.ReadFile("../../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	if formatted := caddyfile.Format(raw); !bytes.Equal(raw, formatted) {
		t.Error("Caddyfile.example is not formatted: run caddy fmt --overwrite Caddyfile.example")
	}
	e := example{ports: map[string]string{}}
	var held []net.Listener
	e.text = regexp.MustCompile(`:(8080|8081|8082|8443|7860|7861|7862)\b`).ReplaceAllStringFunc(string(raw), func(port string) string {
		if e.ports[port] == "" {
			// Held until all are chosen, so that no two are the same.
			l, err := net.Listen("tcp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, l)
			e.ports[port] = fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port)
		}
		return e.ports[port]
	})
	for _, l := range held {
		l.Close()
	}
	if len(e.ports) != 7 {
		t.Fatalf("Caddyfile.example names the ports %v, want seven", e.ports)
	}
	return e
}

// without drops the sites that listen on the ports.
func (e example) without(t *testing.T, ports ...string) string {
	t.Helper()
	text := e.text
	for _, port := range ports {
		site := regexp.MustCompile(`(?m)^` + e.ports[port] + ` \{\n(\t.*\n|\n)*\}\n`)
		if !site.MatchString(text) {
			t.Fatalf("no site on %s", port)
		}
		text = site.ReplaceAllString(text, "")
	}
	return text
}

// The certificate's chain is the business of Caddy; here only its presence is.
var client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

type answer struct {
	Output []struct{ Type, Span string }
}

func (a answer) has(label, span string) bool {
	for _, e := range a.Output {
		if e.Type == label && e.Span == span {
			return true
		}
	}
	return false
}

// predict posts a sentence and returns the answer and the node that gave it.
func predict(t *testing.T, url string) (answer, string) {
	t.Helper()
	resp, err := client.Post(url+"/predict", "application/json",
		strings.NewReader(`{"text":"马云在杭州阿里巴巴总部发表演讲。"}`))
	if err != nil {
		t.Error(err)
		return answer{}, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %s %v", url, resp.Status, body, err)
		return answer{}, ""
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Errorf("%s: %v in %s", url, err, body)
	}
	return a, resp.Header.Get("X-Upstream")
}

// The file of the README's first command: HTTP, TLS and the page answer real
// text, and a node that dies and comes back costs no request.
func TestExampleServesTheClusterAndSurvivesANode(t *testing.T) {
	e := readExample(t)
	c := caddyrun.Start(t, e.text)
	api, secure, page := "http://127.0.0.1"+e.ports[":8080"], "https://localhost"+e.ports[":8443"], "http://127.0.0.1"+e.ports[":7860"]

	// The certificate is made in the background.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(secure + "/health")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("TLS does not answer after 30 s: %v", err)
		}
	}
	for _, url := range []string{api, secure, page} {
		got, node := predict(t, url)
		if !got.has("PER", "马云") || !got.has("LOC", "杭州") || !got.has("ORG", "阿里巴巴") {
			t.Errorf("%s answers %+v", url, got)
		}
		if node == "" {
			t.Errorf("%s does not say which node answered", url)
		}
	}
	resp, err := client.Get(page + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("the page: %s, %d bytes of %s", resp.Status, len(body), resp.Header.Get("Content-Type"))
	}

	// ask sends requests at once and returns how many each node answered.
	ask := func(requests int) map[string]int {
		var wg sync.WaitGroup
		var mu sync.Mutex
		nodes := map[string]int{}
		for range 4 {
			wg.Go(func() {
				for range requests / 4 {
					_, node := predict(t, api)
					mu.Lock()
					nodes[node]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return nodes
	}
	a, b := "127.0.0.1"+e.ports[":8081"], "127.0.0.1"+e.ports[":8082"]
	// The gateway may have checked a node before it listened, a second ago.
	// An ejection that doubled once or twice and the slow start of 30 s.
	const patience = 3 * time.Minute
	until := func(what string, holds func(nodes map[string]int) bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			nodes := ask(20)
			if holds(nodes) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %v %s: the answers come from %v", patience, what, nodes)
			}
		}
	}
	until("not both nodes serve", func(nodes map[string]int) bool { return nodes[a] > 0 && nodes[b] > 0 })
	// Node A dies: the first requests find out, before any health check.
	c.Reload(e.without(t, ":8081"))
	if nodes := ask(100); nodes[b] != 100 {
		t.Errorf("without node A the answers come from %v", nodes)
	}
	c.Reload(e.text)
	until("node A, which is back, gets no requests", func(nodes map[string]int) bool { return nodes[a] > 0 })

	// The page falls apart from the API.
	c.Reload(e.without(t, ":7861", ":7862"))
	if got, _ := predict(t, api); !got.has("PER", "马云") {
		t.Errorf("without the pages the API answers %+v", got)
	}
}
