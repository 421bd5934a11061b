package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestQuickStartShowsWhatTheModelFinds runs Caddyfile.example as the README does,
// but for its ports, and opens the address that the README names. How good the
// built-in model is, its own tests say.
func TestQuickStartShowsWhatTheModelFinds(t *testing.T) {
	b := openBrowser(t)
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	ports := make(map[string]string)
	caddyfile := regexp.MustCompile(`\b(?:786[0-2]|808[0-2]|8443|9090)\b`).ReplaceAllStringFunc(string(text), func(port string) string {
		if ports[port] == "" {
			_, ports[port], _ = strings.Cut(freeAddr(t), ":")
		}
		return ports[port]
	})
	runCaddy(t, caddyfile)
	origin := "http://localhost:" + ports["7860"]
	b.look(1200, "dark")
	b.do(chromedp.Navigate(origin+"/"), chromedp.WaitVisible(chromedp.CSS("#run")))
	b.run(`document.querySelector(".example").click()`)
	b.wantMarks(found(t, "http://localhost:"+ports["8080"]+"/predict", eval[string](b, `document.querySelector(".example").textContent`))...)
	phases := eval[string](b, `document.querySelector(".latency").textContent`)
	for _, want := range []string{"queue", "model", "node 127.0.0.1:", "by model ner"} {
		if !strings.Contains(phases, want) {
			t.Errorf("latency line %q lacks %q", phases, want)
		}
	}
	b.picture("quickstart")
	b.settled(origin)
}

// found asks the API of the example and returns type and text of each entity.
func found(t *testing.T, api, text string) (entities []string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(api, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Output []entity }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Output) == 0 {
		t.Fatalf("%s finds nothing in %s (%s)", api, text, resp.Status)
	}
	for _, e := range answer.Output {
		entities = append(entities, e.Type+" "+e.Span)
	}
	return entities
}
