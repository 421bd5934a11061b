// Package clients tests that the inference handler can be used by programs that
// others wrote for other servers, and that its OpenAPI description is true.
package clients

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-infer/caddy-infer"
	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

const caddyfile = `{
	inference {
		model ner builtin/ner-zh
		model sentiment builtin/sentiment-zh
	}
}
http://ADDR_API {
	handle /ner* {
		inference ner {
			protocol oip
		}
	}
	handle /sentiment* {
		inference sentiment {
			protocol oip
		}
	}
	handle /plain* {
		inference ner
	}
}`

// runPython runs a script against the models with the Python that has the
// clients, which CLIENTS_PYTHON names.
func runPython(t *testing.T, script string) {
	python := os.Getenv("CLIENTS_PYTHON")
	if python == "" {
		t.Skip("CLIENTS_PYTHON names no Python with `pip install -r .ci/clients.txt`")
	}
	c := caddyrun.Start(t, caddyfile)
	cmd := exec.CommandContext(t.Context(), python, script, c.Addr("API"))
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=0", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func TestTritonsClientUnderstands(t *testing.T) { runPython(t, "triton.py") }

func TestHuggingFacesClientUnderstands(t *testing.T) { runPython(t, "huggingface.py") }

// description fetches the OpenAPI description at a path.
func description(t *testing.T, c *caddyrun.Instance, path string) []byte {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(c.URL("API") + path + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	return text
}

func TestDescriptionHasNoFaultThatALinterFinds(t *testing.T) {
	redocly := os.Getenv("REDOCLY")
	if redocly == "" {
		t.Skip("REDOCLY names no linter: npm install @redocly/cli")
	}
	c := caddyrun.Start(t, caddyfile)
	for _, path := range []string{"/ner", "/sentiment", "/plain"} {
		file := filepath.Join(t.TempDir(), "openapi.json")
		if err := os.WriteFile(file, description(t, c, path), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), redocly, "lint", "--extends=recommended-strict", "--format=stylish", file)
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "Your API description is valid") {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}
