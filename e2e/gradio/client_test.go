//go:build unix

package gradio

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// pythons returns the Pythons that have Gradio.
func pythons(t *testing.T) []string {
	t.Helper()
	list := os.Getenv("GRADIO_PYTHONS")
	if list == "" {
		t.Skip("no Gradio here: make virtual environments with .ci/gradio.txt and .ci/gradio3.txt, and name their Pythons in GRADIO_PYTHONS, with : between them")
	}
	return filepath.SplitList(list)
}

// pages starts a page at two nodes, and the gateway before them.
func pages(t *testing.T, python string) (*gateway.Gateway, []*node) {
	t.Helper()
	app, err := filepath.Abs("testdata/app.py")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []*node
	for _, name := range []string{"a", "b"} {
		nodes = append(nodes, newNode(t, name, "/robots.txt", func(port string) *exec.Cmd {
			return exec.Command(python, app, name, port)
		}))
	}
	for _, n := range nodes {
		n.await()
	}
	return startGateway(t, "health /robots.txt\nsticky cookie node\nsticky header X-Session", nodes...), nodes
}

// answered is a line that client.py says.
type answered struct {
	Version   string
	Answer    string
	Streaming string
	Parts     int
	Error     string
}

// driver is Gradio's own client.
type driver struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan answered
}

func startClient(t *testing.T, python string, g *gateway.Gateway) *driver {
	t.Helper()
	cmd := exec.Command(python, "testdata/client.py", g.URL(""))
	cmd.Env = append(os.Environ(), "GRADIO_ANALYTICS_ENABLED=False", "HF_HUB_OFFLINE=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, in: in, lines: make(chan answered, 100)}
	go func() {
		defer close(d.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var a answered
			if json.Unmarshal(lines.Bytes(), &a) == nil {
				d.lines <- a
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its heartbeat may keep it
		_ = cmd.Wait()
	})
	d.next()
	return d
}

func (d *driver) send(do, text string) {
	d.t.Helper()
	line, _ := json.Marshal(map[string]string{"do": do, "text": text})
	if _, err := d.in.Write(append(line, '\n')); err != nil {
		d.t.Fatal(err)
	}
}

// next returns the next thing that the client says.
func (d *driver) next() answered {
	d.t.Helper()
	select {
	case a, ok := <-d.lines:
		if !ok {
			d.t.Fatal("the client ended")
		}
		return a
	case <-time.After(time.Minute):
		d.t.Fatal("the client says nothing for a minute")
	}
	return answered{}
}

// ask has the client call the page, and returns the node's name and its answer.
func (d *driver) ask(do, text string) (node, answer string) {
	d.t.Helper()
	d.send(do, text)
	a := d.next()
	if a.Streaming != "" {
		a = d.next()
	}
	if a.Error != "" {
		d.t.Fatalf("%s: %s", do, a.Error)
	}
	node, answer, _ = strings.Cut(a.Answer, ": ")
	return strings.Fields(node)[0], answer
}

func writeUpload(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "upload.bin")
	if err := os.WriteFile(path, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const uploaded = "300000 bytes"

// works calls each kind of function, and fails unless all are answered by one
// node, whose name it returns.
func (d *driver) works(text string) (home string) {
	d.t.Helper()
	home, answer := d.ask("who", text)
	if answer != text {
		d.t.Errorf("answer %q to %q", answer, text)
	}
	for _, call := range []struct{ do, text, want string }{
		{"count", "", ""}, {"size", writeUpload(d.t), uploaded}, {"stream", text, text}, {"size", writeUpload(d.t), uploaded}, {"count", "", ""},
	} {
		node, answer := d.ask(call.do, call.text)
		if node != home {
			d.t.Errorf("%s: answered by %s, the session is at %s", call.do, node, home)
		}
		if call.want != "" && answer != call.want {
			d.t.Errorf("%s: %s, want %s", call.do, answer, call.want)
		}
	}
	return home
}

// What docs/gradio.md promises, with Gradio's own client.
func TestGradioClient(t *testing.T) {
	for _, python := range pythons(t) {
		t.Run(versionOf(t, python), func(t *testing.T) {
			g, nodes := pages(t, python)
			d := startClient(t, python, g)
			home := d.works("两个节点")

			// The state of the session is at its node, and a reload moves nothing.
			_, before := d.ask("count", "")
			d.send("stream", "through a reload")
			if a := d.next(); a.Streaming == "" {
				t.Fatalf("no stream: %+v", a)
			}
			if err := g.Reload(); err != nil {
				t.Fatal(err)
			}
			if a := d.next(); a.Error != "" || a.Parts != 30 || !strings.HasPrefix(a.Answer, home+" ") {
				t.Errorf("the stream did not survive a reload: %+v", a)
			}
			if node, after := d.ask("count", ""); node != home || len(before) == 0 || after <= before {
				t.Errorf("after the reload: %s at %s, before: %s at %s", after, node, before, home)
			}

			// The node dies: the call under way fails at once, nothing that begins
			// now does, and the session goes on elsewhere.
			d.send("stream", "lost")
			if a := d.next(); a.Streaming == "" {
				t.Fatalf("no stream: %+v", a)
			}
			for _, n := range nodes {
				if n.name == home {
					n.kill()
				}
			}
			if a := d.next(); a.Error == "" {
				t.Errorf("a call whose node died: %+v", a)
			}
			if next := d.works("one killed"); next == home {
				t.Errorf("answered by %s, which is dead", next)
			}
		})
	}
}

func versionOf(t *testing.T, python string) string {
	t.Helper()
	out, err := exec.Command(python, "-c", "import importlib.metadata; print(importlib.metadata.version('gradio'))").Output()
	if err != nil {
		t.Fatalf("%s has no Gradio: %v", python, err)
	}
	return strings.TrimSpace(string(out))
}
