//go:build unix

package gradio

import (
	"context"
	"errors"
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
	node, err := b.waitFor(text, 30*time.Second)
	if err != nil {
		b.t.Fatalf("waiting for %s: %v; the page says:\n%s", text, err, b.text())
	}
	return node
}

func (b *tab) waitFor(text string, patience time.Duration) (node string, err error) {
	expression := answer + `.includes("` + text + `")`
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(patience))); err != nil {
		return "", err
	}
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](answer))
	if err != nil {
		return "", err
	}
	if node, _, _ = strings.Cut(value, " "); node == "" {
		return "", errors.New("the answer is gone again")
	}
	return strings.TrimRight(node, ":"), nil
}

// insists types and clicks until it is answered, as somebody would whose page
// has just said that it lost its server: Gradio 6 loads its page anew, sooner or
// later, when it is back.
func (b *tab) insists(text, id, want string) (node string) {
	b.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		err := b.typing(text)
		if err == nil {
			err = chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS("#"+id)))
		}
		if err == nil {
			node, err = b.waitFor(want, 15*time.Second)
		}
		if err == nil {
			return node
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("asking %s again and again: %v; the page says:\n%s", id, err, b.text())
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// notices waits until the page says that something went wrong, or loads itself
// anew, which Gradio 6 does when it has lost its server.
func (b *tab) notices(fail func()) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](`window.before = true; undefined`))
	fail()
	const noticed = `!window.before || /error/i.test(document.body.innerText)`
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](noticed))
		switch {
		case yes && err == nil:
			return
		case time.Now().After(deadline):
			b.t.Fatalf("the page notices nothing: %v; it says:\n%s", err, b.text())
		}
	}
}

func (b *tab) types(text string) {
	b.t.Helper()
	if err := b.typing(text); err != nil {
		b.t.Fatalf("typing: %v; the page says:\n%s", err, b.text())
	}
}

func (b *tab) typing(text string) error {
	field := chromedp.CSS("#text textarea")
	if err := chromedp.Do(b.ctx, chromedp.WaitVisible(field)); err != nil {
		return err
	}
	if err := chromedp.Do(b.ctx, chromedp.Evaluate[chromedp.Void](`document.querySelector("#text textarea").select()`)); err != nil {
		return err
	}
	return chromedp.Do(b.ctx, chromedp.SendKeys(field, text))
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
			b.notices(func() {
				for _, n := range nodes {
					if n.name == home {
						n.kill()
					}
				}
			})
			if node := b.insists("again", "who", ": again"); node == home {
				t.Errorf("answered by %s, which is dead", node)
			}
			b.insists("to the end", "stream", " 29: to the end")
		})
	}
}
