//go:build unix

package gradio

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tab is one of a headless Chromium that knows no host but this one.
type tab struct {
	t   *testing.T
	ctx context.Context
}

func openTab(t *testing.T) *tab {
	t.Helper()
	path := ""
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); name != "" && err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no chromium here: install Debian's chromium package, or name one in CHROMIUM")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, // CI runs as root, where Chromium's sandbox can't
		chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("lang", "en"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"), // fonts of Gradio's are on the Internet
	)
	allocator, closeAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	page, closeTab := chromedp.NewContext(allocator)
	if err := chromedp.Do(page); err != nil { // starts the browser
		t.Fatalf("starting %s: %v", path, err)
	}
	ctx, stop := context.WithTimeout(page, 3*time.Minute)
	t.Cleanup(func() {
		stop()
		_ = chromedp.Cancel(page)
		closeTab()
		closeAllocator()
	})
	return &tab{t, ctx}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatalf("driving the browser: %v; the page says:\n%s", err, b.text())
	}
}

func (b *tab) text() string {
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	return text
}

const answer = `(document.querySelector("#answer textarea") || {value: ""}).value`

// shows waits until the answer has a text in it, and returns the node's name.
func (b *tab) shows(text string) (node string) {
	b.t.Helper()
	quoted := `"` + text + `"`
	_, err := chromedp.Run(b.ctx, chromedp.Poll[chromedp.Void](answer+".includes("+quoted+")", chromedp.WithPollingTimeout(30*time.Second)))
	if err != nil {
		b.t.Fatalf("waiting for %s: %v; the page says:\n%s", text, err, b.text())
	}
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](answer))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimRight(strings.Fields(value)[0], ":")
}

func (b *tab) until(expression string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(30*time.Second))); err != nil {
		b.t.Fatalf("waiting for %s: %v; the page says:\n%s", expression, err, b.text())
	}
}

func (b *tab) types(text string) {
	b.t.Helper()
	field := chromedp.CSS("#text textarea")
	b.do(chromedp.WaitVisible(field))
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#text textarea").select()`))
	b.do(chromedp.SendKeys(field, text))
}

func (b *tab) click(id string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS("#" + id)))
}

func (b *tab) uploads(path string) {
	b.t.Helper()
	b.do(chromedp.SetUploadFiles(chromedp.CSS("#file input[type=file]"), []string{path}))
}

// What docs/gradio.md promises, with a browser.
func TestGradioInABrowser(t *testing.T) {
	for _, python := range pythons(t) {
		t.Run(versionOf(t, python), func(t *testing.T) {
			g, nodes := pages(t, python)
			b := openTab(t)
			b.do(chromedp.Navigate(g.URL("/")))
			b.types("hello")
			b.click("who")
			home := b.shows(": hello")
			b.uploads(writeUpload(t))
			if node := b.shows(uploaded); node != home {
				t.Errorf("uploaded to %s, the session is at %s", node, home)
			}
			b.click("count")
			b.shows(home + ": 1")

			b.types("streamed")
			b.click("stream")
			b.shows(" 2: streamed")
			if err := g.Reload(); err != nil {
				t.Fatal(err)
			}
			if node := b.shows(" 29: streamed"); node != home {
				t.Errorf("streamed by %s, the session is at %s", node, home)
			}
			b.click("count")
			b.shows(home + ": 2")

			// The node dies in the middle of a stream: the page says so, and goes on
			// with the other as soon as it is asked to.
			b.types("lost")
			b.click("stream")
			b.shows(" 2: lost")
			for _, n := range nodes {
				if n.name == home {
					n.kill()
				}
			}
			b.until(`/connection.*(errored|lost|broke)|error/i.test(document.body.innerText)`)
			b.types("again")
			b.click("who")
			if node := b.shows(": again"); node == home {
				t.Errorf("answered by %s, which is dead", node)
			}
			b.click("stream")
			b.shows(" 29: again")
		})
	}
}
