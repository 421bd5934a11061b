package dashboard

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

func TestCaddyfileAdapts(t *testing.T) { caddyrun.Golden(t, "testdata") }

func provisioned(t *testing.T, ui *ModelUI) *ModelUI {
	t.Helper()
	if err := ui.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	return ui
}

// ask sends a request through the handler; a request passed on answers 299.
func ask(t *testing.T, ui *ModelUI, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	err := ui.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(299)
		return nil
	}))
	resp := w.Result()
	if handlerError, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		resp.StatusCode = handlerError.StatusCode
	} else if err != nil {
		t.Fatal(err)
	}
	return resp
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestServesItsOwnAndPassesOnTheRest(t *testing.T) {
	root, ui := provisioned(t, &ModelUI{}), provisioned(t, &ModelUI{Path: "/ui"})
	shared := provisioned(t, &ModelUI{API: "/"})
	for _, test := range []struct {
		ui             *ModelUI
		method, target string
		want           int
	}{
		{root, "GET", "/", 200},
		{root, "HEAD", "/", 200},
		{root, "GET", "/model_ui/app.js", 200},
		{root, "GET", "/model_ui/strings.json", 299}, // embedded, but no asset
		{root, "GET", "/model_ui/", 299},
		{root, "POST", "/predict", 299},
		{root, "GET", "/health", 299},
		{root, "POST", "/", 405},
		{root, "DELETE", "/model_ui/app.css", 405},
		{shared, "POST", "/", 299},
		{shared, "GET", "/", 200},
		{ui, "GET", "/ui", 308},
		{ui, "GET", "/ui/", 200},
		{ui, "GET", "/ui/model_ui/app.css", 200},
		{ui, "GET", "/", 299},
		{ui, "GET", "/uix", 299},
		{ui, "GET", "/model_ui/app.css", 299},
	} {
		if got := ask(t, test.ui, test.method, test.target).StatusCode; got != test.want {
			t.Errorf("mounted at %s: %s %s gives %d, want %d", test.ui.Path, test.method, test.target, got, test.want)
		}
	}
}

func TestUnchangedDocumentsAreNotSentAgain(t *testing.T) {
	ui := provisioned(t, &ModelUI{})
	for _, target := range []string{"/", "/model_ui/app.js", "/model_ui/render.js", "/model_ui/app.css", "/model_ui/icon.svg"} {
		first := ask(t, ui, "GET", target)
		if etag := first.Header.Get("ETag"); etag == "" || body(t, first) == "" {
			t.Fatalf("%s: ETag %q", target, etag)
		} else if again := ask(t, ui, "GET", target, "If-None-Match", etag); again.StatusCode != 304 || body(t, again) != "" {
			t.Errorf("%s: status %d for the current ETag, want 304 without a body", target, again.StatusCode)
		}
		head := ask(t, ui, "HEAD", target)
		if head.Header.Get("Content-Length") != first.Header.Get("Content-Length") || body(t, head) != "" {
			t.Errorf("%s: HEAD differs from GET without a body", target)
		}
	}
}

func TestLanguageFollowsTheReader(t *testing.T) {
	ui := provisioned(t, &ModelUI{})
	for _, test := range []struct{ target, accept, want string }{
		{"/", "", "en"},
		{"/", "zh-CN,zh;q=0.9,en;q=0.8", "zh"},
		{"/", "zh-TW", "zh"},
		{"/", "en-GB,zh;q=0.5", "en"},
		{"/", "fr", "en"},
		{"/", "fr, zh;q=0.1", "zh"},
		{"/", "not a language at all;q=x", "en"},
		{"/?lang=zh", "en", "zh"},
		{"/?lang=en", "zh", "en"},
		{"/?lang=../../etc", "zh", "zh"},
	} {
		resp := ask(t, ui, "GET", test.target, "Accept-Language", test.accept)
		page := body(t, resp)
		if resp.Header.Get("Content-Language") != test.want || !strings.Contains(page, `<html lang="`+test.want+`"`) {
			t.Errorf("%s for %q is in %s, want %s", test.target, test.accept, resp.Header.Get("Content-Language"), test.want)
		}
		if !strings.Contains(resp.Header.Get("Vary"), "Accept-Language") {
			t.Error("caches aren't told that the language varies")
		}
	}
}

func TestBothLanguagesSayEverything(t *testing.T) {
	for key, text := range translations["en"] {
		other, ok := translations["zh"][key]
		if !ok || other == "" || text == "" {
			t.Errorf("%q is missing in one language", key)
		}
		placeholders := regexp.MustCompile(`\{\w+\}`)
		if a, b := placeholders.FindString(text), placeholders.FindString(other); a != b {
			t.Errorf("%q has %q in one language and %q in the other", key, a, b)
		}
	}
	if len(translations["en"]) != len(translations["zh"]) {
		t.Error("the languages have different keys")
	}
}

func TestPageReachesTheAPIFromAnyMount(t *testing.T) {
	for _, test := range []struct{ mount, api, want string }{
		{"/", "/predict", "predict"},
		{"/ui/", "/predict", "../predict"},
		{"/ui/", "/ui/predict", "predict"},
		{"/ui/ner/", "/ui/predict", "../predict"},
		{"/ui/ner/", "/uix/predict", "../../uix/predict"},
		{"/", "/api/v1/predict", "api/v1/predict"},
		{"/ui/", "/ui/", "./"},
		{"/", "/", "./"},
		{"/", "/v1:predict", "./v1:predict"},
		{"/", "/?q=1", "./?q=1"},
	} {
		if got := relativePath(test.mount, test.api); got != test.want {
			t.Errorf("from %s to %s: %q, want %q", test.mount, test.api, got, test.want)
		}
	}
}

func TestNothingTheOperatorWritesBecomesMarkup(t *testing.T) {
	const hostile = `</title></script><script>alert(1)</script>"'{{.}}`
	page := body(t, ask(t, provisioned(t, &ModelUI{Title: hostile, API: `/a"><b>`}), "GET", "/"))
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	var config string
	for n := range doc.Descendants() {
		switch {
		case n.Data == "b":
			t.Error("the api became mark-up")
		case n.Data == "script" && n.FirstChild != nil:
			if attribute(n, "type") != "application/json" {
				t.Errorf("inline script: %q", n.FirstChild.Data)
			}
			config = n.FirstChild.Data
		case n.Data == "title" || n.Data == "h1":
			titles = append(titles, n.FirstChild.Data)
		}
		if style := attribute(n, "style"); style != "" {
			t.Errorf("inline style %q, which the policy forbids", style)
		}
	}
	if len(titles) != 2 || titles[0] != hostile || titles[1] != hostile {
		t.Errorf("titles %q, want the configured one, literally", titles)
	}
	var parsed struct {
		Title  string
		Models []struct{ API string }
	}
	if err := json.Unmarshal([]byte(config), &parsed); err != nil || parsed.Title != hostile || len(parsed.Models) != 1 || parsed.Models[0].API != `a"><b>` {
		t.Errorf("configuration for the script: %+v, %v", parsed, err)
	}
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func TestPageIsSmallAndKeepsToItself(t *testing.T) {
	resp := ask(t, provisioned(t, &ModelUI{}), "GET", "/")
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	all := body(t, resp)
	for _, asset := range assets {
		all += string(asset.body)
	}
	if len(all) > 100_000 {
		t.Errorf("page and assets are %d bytes, want at most 100 kB", len(all))
	}
	for _, url := range regexp.MustCompile(`(?:https?:)?//[\w.-]+\.\w+`).FindAllString(all, -1) {
		if url != "http://www.w3.org" { // the SVG name space, which nobody fetches
			t.Errorf("the page names another site: %s", url)
		}
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, ui := range []*ModelUI{
		{Path: "ui"},
		{Path: "/a/../b"},
		{Path: "//evil.example"},
		{Path: "/ui/*"},
		{Path: "/{http.request.uri}"},
		{API: "https://elsewhere.example/predict"},
		{API: "//elsewhere.example/predict"},
		{API: "predict"},
		{API: "javascript:alert(1)"},
		{API: "/%zz"},
		{Task: "translation"},
	} {
		if err := ui.Provision(caddy.Context{}); err == nil {
			t.Errorf("accepted %+v", *ui)
		}
	}
}

// TestPageAndAPIOnOneSite runs the WebUI node of the README and a gateway that
// strips a prefix in front of it.
func TestPageAndAPIOnOneSite(t *testing.T) {
	c := caddyrun.Start(t, `
http://ADDR_NODE {
	handle_path /prefix/* {
		model_ui
	}
	model_ui /ui
	respond /predict "answer" 200
	model_ui
}
http://ADDR_GATEWAY {
	handle_path /node/* {
		reverse_proxy ADDR_NODE
	}
}`)
	get := func(url string) (*http.Response, string) {
		t.Helper()
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		defer client.CloseIdleConnections()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp, body(t, resp)
	}
	for _, url := range []string{
		c.URL("NODE") + "/", c.URL("NODE") + "/ui/", c.URL("NODE") + "/prefix/",
		c.URL("GATEWAY") + "/node/", c.URL("GATEWAY") + "/node/ui/", c.URL("GATEWAY") + "/node/prefix/",
	} {
		if resp, page := get(url); resp.StatusCode != 200 || !strings.Contains(page, `src="model_ui/app.js"`) {
			t.Errorf("%s: status %d", url, resp.StatusCode)
		}
		if resp, script := get(url + "model_ui/app.js"); resp.StatusCode != 200 || !strings.Contains(script, "render.js") {
			t.Errorf("%s: the script has status %d", url, resp.StatusCode)
		}
	}
	for from, to := range map[string]string{
		c.URL("NODE") + "/ui?lang=zh": "./ui/?lang=zh",
		c.URL("GATEWAY") + "/node/ui": "./ui/",
	} {
		if resp, _ := get(from); resp.StatusCode != 308 || resp.Header.Get("Location") != to {
			t.Errorf("%s: %d to %q, want %q", from, resp.StatusCode, resp.Header.Get("Location"), to)
		}
	}
	if _, answer := get(c.URL("NODE") + "/predict"); answer != "answer" {
		t.Errorf("the API behind the page says %q", answer)
	}
}
