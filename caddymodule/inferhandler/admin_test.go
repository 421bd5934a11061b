package inferhandler

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// relabelled is a model directory like modelDir's whose persons are called
// something else.
func relabelled(t testing.TB, person string) string {
	t.Helper()
	dir := modelDir(t)
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(data), "-PER", "-"+person)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func withAdmin(t testing.TB, dir string) (*caddyrun.Instance, string) {
	t.Helper()
	config := strings.Replace(site(dir, "cache 100", "inference ner"), "{\n", "{\n\tadmin ADDR_ADMIN\n", 1)
	c := caddyrun.Start(t, config)
	t.Cleanup(func() { c.Reload("http://ADDR_API {\n}\n") }) // caddy.Stop leaves the admin endpoint open
	return c, config
}

// order asks the admin API.
func order(t testing.TB, c *caddyrun.Instance, method, path, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL("ADMIN")+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, strings.TrimSpace(string(text))}
}

func status(t testing.TB, r reply) modelStatus {
	t.Helper()
	var s modelStatus
	if r.code != 200 || r.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", r.code, r.body)
	}
	if err := json.Unmarshal([]byte(r.body), &s); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	return s
}

// person asks what the model calls persons, and which model that was.
func person(t testing.TB, c *caddyrun.Instance) (label, digest string) {
	t.Helper()
	r := send(t, c.URL("API")+"/predict", `{"text":"马云"}`)
	var answer entitiesAnswer
	if err := json.Unmarshal([]byte(r.body), &answer); err != nil || len(answer.Output) != 1 {
		t.Fatalf("%d %s", r.code, r.body)
	}
	return answer.Output[0].Type, r.header.Get("X-Inference-Model-Digest")
}

func TestOperatorChangesAModelAndGoesBack(t *testing.T) {
	a, b := modelDir(t), relabelled(t, "WHO")
	c, config := withAdmin(t, a)
	want := func(label, ref, previous string) {
		t.Helper()
		got, digest := person(t, c)
		s := status(t, order(t, c, "GET", "/inference/models/ner", ""))
		if got != label || s.Name != "ner" || s.Ref != ref || s.Digest != digest || s.ConfiguredRef != a || s.Engine != "scripted" || s.Since.IsZero() || s.Queued != 0 {
			t.Errorf("%s answers, want %s; %+v, digest %s", got, label, s, digest)
		}
		if p := s.Previous; (p == nil) != (previous == "") || p != nil && p.Ref != previous {
			t.Errorf("previous %+v, want %q", p, previous)
		}
		var h healthAnswer
		if err := json.Unmarshal([]byte(send(t, c.URL("API")+"/health", "").body), &h); err != nil || h.ModelDigest != digest {
			t.Errorf("health says %s: %v", h.ModelDigest, err)
		}
	}
	want("PER", a, "")
	person(t, c) // now from the cache
	load := fmt.Sprintf(`{"ref":%q}`, b)
	if s := status(t, order(t, c, "POST", "/inference/models/ner/load", load)); s.Ref != b {
		t.Errorf("%+v", s)
	}
	want("WHO", b, a)
	c.Reload(config + "\n# a change elsewhere")
	want("WHO", b, a)
	status(t, order(t, c, "POST", "/inference/models/ner/rollback", ""))
	want("PER", a, b)
	status(t, order(t, c, "POST", "/inference/models/ner/rollback", ""))
	want("WHO", b, a)
	status(t, order(t, c, "POST", "/inference/models/ner/load", ""))
	want("PER", a, b)

	var all []modelStatus
	r := order(t, c, "GET", "/inference/models", "")
	if err := json.Unmarshal([]byte(r.body), &all); err != nil || len(all) != 1 || all[0].Name != "ner" {
		t.Errorf("%s: %v", r.body, err)
	}
	if !strings.Contains(c.Log(), `"msg":"model ready"`) {
		t.Error("the log tells nothing of the change")
	}
}

func TestOrdersThatCannotBeFollowed(t *testing.T) {
	c, _ := withAdmin(t, modelDir(t))
	empty := t.TempDir()
	for _, tt := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/inference/models/raner", "", 404, "no handler has a model \\\"raner\\\": there are ner"},
		{"POST", "/inference/models/raner/load", "", 404, "there are ner"},
		{"POST", "/inference/models/load", "", 404, "no model is named before /load"},
		{"POST", "/inference/models/ner/rollback", "", 409, "no earlier model"},
		{"GET", "/inference/models/ner/rollback", "", 405, "use POST"},
		{"DELETE", "/inference/models/ner", "", 405, "use GET"},
		{"POST", "/inference/models/ner/load", `{"ref":"` + empty + `"}`, 422, "config.json"},
		{"POST", "/inference/models/ner/load", `{"ref":"builtin/none"}`, 422, "no such built-in model"},
		{"POST", "/inference/models/ner/load", `{"ref":""}`, 400, "want {"},
		{"POST", "/inference/models/ner/load", `{"path":"x"}`, 400, "want {"},
		{"POST", "/inference/models/ner/load", `/models/raner`, 400, "want {"},
		{"POST", "/inference/models/ner/load", `{"ref":"` + strings.Repeat("x", maxOrder) + `"}`, 400, "more than"},
	} {
		r := order(t, c, tt.method, tt.path, tt.body)
		if r.code != tt.code || !strings.Contains(r.body, tt.want) {
			t.Errorf("%s %s: %d %s, want %d %s", tt.method, tt.path, r.code, r.body, tt.code, tt.want)
		}
	}
	if label, _ := person(t, c); label != "PER" {
		t.Errorf("%s answers", label)
	}
}

// Models change and configurations are reloaded while clients ask: every
// request has the answer of one model, that which its header names.
func TestChangesAndReloadsLoseNothing(t *testing.T) {
	a, b := modelDir(t), relabelled(t, "WHO")
	c, config := withAdmin(t, a)
	labels := map[string]string{}
	label, digest := person(t, c)
	labels[digest] = label
	status(t, order(t, c, "POST", "/inference/models/ner/load", fmt.Sprintf(`{"ref":%q}`, b)))
	label, digest = person(t, c)
	labels[digest] = label
	if len(labels) != 2 {
		t.Fatal(labels)
	}

	var stop atomic.Bool
	var asked, again atomic.Int64
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for n := 0; !stop.Load(); n++ {
				text := strings.Repeat("云", n%20+1) + "马云"
				r, err := trySend(c.URL("API")+"/predict", `{"texts":["`+text+`","马"]}`)
				if err != nil {
					again.Add(1) // stock Caddy's reloads break connections that no handler has seen
					continue
				}
				var answer struct{ Results []entitiesAnswer }
				if err := json.Unmarshal([]byte(r.body), &answer); err != nil || r.code != 200 || len(answer.Results) != 2 {
					t.Errorf("%d %s", r.code, r.body)
					return
				}
				want := labels[r.header.Get("X-Inference-Model-Digest")]
				if answer.Results[0].Text != text {
					t.Errorf("an answer to %s instead of %s", answer.Results[0].Text, text)
				}
				for _, res := range answer.Results {
					for _, e := range res.Output {
						if want == "" || e.Type != want {
							t.Errorf("%s from the model that says %q", e.Type, want)
						}
					}
				}
				asked.Add(1)
			}
		})
	}
	for i := range 30 {
		seen := asked.Load()
		eventually(t, "more answers", func() bool { return asked.Load() > seen+10 })
		if i%5 == 4 {
			c.Reload(fmt.Sprint(config, "\n# ", i))
			continue
		}
		status(t, order(t, c, "POST", "/inference/models/ner/rollback", ""))
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d answers, %d connections made again", asked.Load(), again.Load())
	if again.Load() > asked.Load()/10 {
		t.Errorf("%d of %d connections were lost", again.Load(), asked.Load())
	}
}
