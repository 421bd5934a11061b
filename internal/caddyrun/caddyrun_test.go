package caddyrun

import (
	"io"
	"net/http"
	"strings"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func TestMain(m *testing.M) { Main(m) }

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestSitesAnswerOnTheirOwnAddresses(t *testing.T) {
	c := Start(t, `http://ADDR_A {
	respond a
}
http://ADDR_B {
	respond b
}`)
	if a, b := get(t, c.URL("A")), get(t, c.URL("B")); a != "a" || b != "b" {
		t.Errorf("A says %q, B says %q", a, b)
	}
}

func TestReloadKeepsAddresses(t *testing.T) {
	c := Start(t, "http://ADDR_A {\n\trespond old\n}")
	before := c.Addr("A")
	c.Reload("http://ADDR_A {\n\trespond new\n}")
	http.DefaultClient.CloseIdleConnections()
	if c.Addr("A") != before || get(t, c.URL("A")) != "new" {
		t.Errorf("address %s then %s, answer %q", before, c.Addr("A"), get(t, c.URL("A")))
	}
}

func TestBadConfigurationIsAnErrorAndTheOldOneStays(t *testing.T) {
	c := Start(t, "http://ADDR_A {\n\trespond old\n}")
	err := c.Load("http://ADDR_A {\n\tnonsense\n}")
	if err == nil || !strings.Contains(err.Error(), "Caddyfile:2") {
		t.Errorf("error %v, want one naming Caddyfile:2", err)
	}
	if got := get(t, c.URL("A")); got != "old" {
		t.Errorf("answer %q after a rejected configuration", got)
	}
}
