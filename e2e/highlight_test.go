package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

const articles = "马云在杭州阿里巴巴总部发表演讲。"

// openHighlighted serves a page and a model's answer through ner_highlight.
func openHighlighted(t *testing.T) (b *browser, origin string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("answer.json", `{"text":"`+articles+`","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.98},`+
		`{"type":"LOC","start":3,"end":5,"span":"杭州","prob":0.91},{"type":"ORG","start":5,"end":9,"span":"阿里巴巴","prob":0.85}]}`)
	write("page.html", `<!doctype html><html lang="zh"><head><meta charset="utf-8"><title>新闻</title>`+
		`<meta http-equiv="Content-Security-Policy" content="default-src 'self'"></head><body><main><h1>新闻</h1>`+
		`<p>`+articles+`</p><p>清华大学和<b>中科</b>院签署协议。</p></main></body></html>`)
	b = openBrowser(t)
	node := newStub(t)
	addrs := runCaddy(t, `
http://ADDR_SITE {
	encode
	ner_highlight {
		annotate http://`+node.Listener.Addr().String()+`/predict {
			request text
			timeout 1m
			budget  1m
		}
	}
	root `+dir+`
	file_server
}`)
	origin = "http://" + addrs["ADDR_SITE"]
	t.Cleanup(func() { b.settled(origin) })
	return b, origin
}

const looksOfMarks = `[...document.querySelectorAll("mark.ner")].map((m) => {
	const s = getComputedStyle(m);
	return [m.textContent, s.color, s.borderBottomStyle, getComputedStyle(m, "::after").content].join(" ");
})`

func TestAnAnswerIsAPageInABrowser(t *testing.T) {
	b, origin := openHighlighted(t)
	for theme, want := range map[string][]string{
		"dark":  {`马云 rgb(255, 92, 102) solid "PER"`, `杭州 rgb(0, 229, 255) dashed "LOC"`, `阿里巴巴 rgb(255, 230, 0) double "ORG"`},
		"light": {`马云 rgb(22, 22, 31) solid "PER"`, `杭州 rgb(22, 22, 31) dashed "LOC"`, `阿里巴巴 rgb(22, 22, 31) double "ORG"`},
	} {
		b.look(900, theme)
		b.do(chromedp.Navigate(origin+"/answer.json"), chromedp.WaitVisible(chromedp.CSS(".ner-text")))
		if got := eval[[]string](b, looksOfMarks); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, want %q", theme, got, want)
		}
		// What is copied is the text, without the labels that CSS draws.
		if got := eval[string](b, `(getSelection().selectAllChildren(document.querySelector(".ner-text")), getSelection().toString().trim())`); got != articles {
			t.Errorf("copied: %q", got)
		}
		if got := eval[[]string](b, `[...document.querySelectorAll(".ner-hidden li")].map((e) => e.textContent)`); len(got) != 3 {
			t.Errorf("a screen reader hears %q", got)
		}
		b.run("getSelection().empty()")
		call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: 640, Height: 210, DeviceScaleFactor: 1})
		b.picture("ner-highlight-" + theme)
		axe(t, b)
	}
	b.look(360, "dark")
	if got := eval[bool](b, `document.documentElement.scrollWidth <= 360`); !got {
		t.Error("the page is wider than a telephone")
	}
}

func TestAPageIsAnnotatedInABrowser(t *testing.T) {
	b, origin := openHighlighted(t)
	b.look(900, "light")
	b.do(chromedp.Navigate(origin + "/page.html"))
	b.until(`document.styleSheets.length > 0`)
	want := []string{
		`马云 rgb(22, 22, 31) solid "PER"`, `杭州 rgb(22, 22, 31) dashed "LOC"`, `阿里巴巴 rgb(22, 22, 31) double "ORG"`,
		// An organisation, across a tag: two marks, of which the last has the label.
		`清华大学 rgb(22, 22, 31) double "ORG"`, `中科 rgb(22, 22, 31) double none`, `院 rgb(22, 22, 31) double "ORG"`,
	}
	if got := eval[[]string](b, looksOfMarks); !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := eval[string](b, `document.querySelector("main").textContent`); got != "新闻"+articles+"清华大学和中科院签署协议。" {
		t.Errorf("the page says %q", got)
	}
	b.picture("ner-annotated-light")
	axe(t, b)
}

var ourTags = regexp.MustCompile(`<mark class="ner [^>]*>|</mark>|<link rel="stylesheet" href="/_ner/[^>]*>`)

// Pages as people publish them: the documentation of Debian, in simplified and
// traditional Chinese.
func TestRealPagesAreAnnotated(t *testing.T) {
	pages := chinesePages(t)
	addrs := runCaddy(t, `
http://ADDR_SITE {
	ner_highlight {
		annotate builtin/ner-zh {
			timeout 1m
			budget  10m
		}
	}
	root /usr/share
	file_server
}`)
	entities, bytes := 0, 0
	for _, file := range pages {
		original, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := body(t, "http://"+addrs["ADDR_SITE"]+strings.TrimPrefix(file, "/usr/share"))
		if ourTags.ReplaceAllString(got, "") != string(original) {
			t.Errorf("%s: apart from the marks the page is another", file)
		}
		entities += strings.Count(got, "<mark class=")
		bytes += len(original)
	}
	t.Logf("%d entities in %d pages of %d bytes", entities, len(pages), bytes)
	if entities < len(pages) {
		t.Errorf("%d marks in %d pages", entities, len(pages))
	}

	// And a browser reads the same text in them.
	b := openBrowser(t)
	site := "http://" + addrs["ADDR_SITE"]
	text := func(url string) string {
		b.do(chromedp.Navigate(url))
		return eval[string](b, `document.body.textContent`)
	}
	for _, file := range pages[:min(5, len(pages))] {
		url := site + strings.TrimPrefix(file, "/usr/share")
		if text(url) != text(url+"?highlight=json") {
			t.Errorf("%s: the browser reads another text", file)
		}
	}
}

func chinesePages(t *testing.T) (pages []string) {
	t.Helper()
	for _, pattern := range []string{
		"/usr/share/debian-reference/*.zh-cn.html", "/usr/share/doc/maint-guide-zh-tw/html/*.html", "/usr/share/doc/debian/FAQ/zh-cn/*.html",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Skip("no " + pattern + " here: install Debian's debian-reference-zh-cn, maint-guide-zh-tw and debian-faq-zh-cn")
		}
		pages = append(pages, found...)
	}
	return pages
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s: %s", url, resp.Status))
	}
	return string(b)
}
