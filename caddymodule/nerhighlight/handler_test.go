package nerhighlight

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/html"
	"golang.org/x/text/encoding/simplifiedchinese"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

func TestMain(m *testing.M) { caddyrun.Main(m) }

func TestCaddyfileAdapts(t *testing.T) { caddyrun.Golden(t, "testdata") }

const (
	sentence = "马云在杭州阿里巴巴总部发表演讲。"
	answer   = `{"text":"` + sentence + `","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.98},` +
		`{"type":"LOC","start":3,"end":5,"span":"杭州","prob":0.9},{"type":"ORG","start":5,"end":9,"span":"阿里巴巴","prob":0.8}]}`
	page = "<!doctype html>\n<html><head><meta charset=utf-8><title>马云</title></head>\n<body><p>" + sentence + "</p><pre>马云</pre></body></html>\n"
)

// nodes serves answers and pages in all the ways that upstreams do.
func nodes(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/predict", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-MD5", "x")
		if strings.Contains(r.Header.Get("If-None-Match"), `"v1"`) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, answer)
	})
	// As Hugging Face answers: without the text.
	mux.HandleFunc("/bare", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `[{"entity_group":"PER","word":"马云","start":0,"end":2,"score":0.98}]`)
	})
	coded := func(body, kind, coding string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write(encoded(t, body, coding))
		}
	}
	mux.HandleFunc("/predict.gzip", coded(answer, "application/json", "gzip"))
	mux.HandleFunc("/predict.zstd", coded(answer, "application/json", "zstd"))
	mux.HandleFunc("/page.gzip", coded(page, "text/html", "gzip"))
	mux.HandleFunc("/page.zstd", coded(page, "text/html; charset=utf-8", "zstd"))
	mux.HandleFunc("/page.br", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "br")
		_, _ = io.WriteString(w, "not really brotli, nor to be read")
	})
	mux.HandleFunc("/cut.gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Content-Encoding", "gzip")
		whole := encoded(t, strings.Repeat(page, 1000), "gzip")
		_, _ = w.Write(whole[:len(whole)/2])
	})
	mux.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, c := range []byte(answer) {
			_, _ = w.Write([]byte{c})
			_ = http.NewResponseController(w).Flush()
		}
	})
	mux.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"healthy"}`)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"text":"`+strings.Repeat("长", 1<<20)+`","output":[]}`)
	})
	mux.HandleFunc("/error", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, `{"error":"broken"}`)
	})
	mux.HandleFunc("/fixed", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "max-age=1, no-transform")
		_, _ = io.WriteString(w, answer)
	})
	mux.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.Header().Set("ETag", `"p1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		http.ServeContent(w, r, "", startTime, strings.NewReader(page))
	})
	mux.HandleFunc("/gbk", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write(gbk(t, strings.Replace(page, "utf-8", "gbk", 1)))
	})
	mux.HandleFunc("/utf16", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-16le")
		_, _ = io.WriteString(w, "<\x00p\x00>\x00")
	})
	mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "<script>alert(1)</script>\n\n"+sentence+"\n")
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func encoded(t *testing.T, body, coding string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&b)
	if coding == "zstd" {
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	_, _ = io.WriteString(w, body)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gbk(t *testing.T, s string) []byte {
	t.Helper()
	b, err := simplifiedchinese.GBK.NewEncoder().Bytes([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const asBrowser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// get asks and reads the whole answer; Go's transport adds and removes gzip by
// itself unless the header says otherwise.
func get(t *testing.T, method, url, accept, body string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	req.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp, string(b)
}

var tags = regexp.MustCompile(`<mark [^>]*>|</mark>|<link rel="stylesheet" href="/_ner[^>]*>`)

// marks returns the marked words with their classes, "PER 马云", in order.
func marks(t *testing.T, body string) (list []string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "mark" {
			continue
		}
		class, text := "", ""
		for _, a := range n.Attr {
			if a.Key == "class" {
				class = a.Val
			}
		}
		for d := range n.Descendants() {
			if d.Type == html.TextNode {
				text += d.Data
			}
		}
		list = append(list, strings.TrimPrefix(class, "ner ner-")+" "+text)
	}
	return list
}

const three = "[PER 马云 LOC 杭州 ORG 阿里巴巴]"

func TestAnswersBecomeHTMLForThoseWhoPreferIt(t *testing.T) {
	up := nodes(t)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	url := c.URL("S")

	for _, accept := range []string{"", "*/*", "application/json", "text/html;q=0.5, application/json", "application/json, text/html", "text/*;q=0.1, */*"} {
		resp, body := get(t, "POST", url+"/predict", accept, "{}")
		if body != answer || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("ETag") != `"v1"` {
			t.Errorf("Accept %q: %v %s", accept, resp.Header, body)
		}
		if !strings.Contains(resp.Header.Get("Vary"), "Accept") {
			t.Errorf("Accept %q: Vary is %q: caches would give this to everyone", accept, resp.Header.Values("Vary"))
		}
	}
	for _, path := range []string{"/predict", "/predict.gzip", "/predict.zstd", "/chunked"} {
		for _, accept := range []string{asBrowser, "text/html", "text/html, application/json;q=0.9"} {
			resp, body := get(t, "POST", url+path, accept, "{}")
			if got := fmt.Sprint(marks(t, body)); got != three {
				t.Errorf("%s, Accept %q: marks %s in %s", path, accept, got, body)
			}
			h := resp.Header
			if h.Get("Content-Type") != "text/html; charset=utf-8" || resp.ContentLength != int64(len(body)) ||
				h.Get("Content-Encoding") != "" || h.Get("Content-MD5") != "" || h.Get("X-Ner") != "entities=3;dropped=0" ||
				!strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || !strings.Contains(h.Get("Vary"), "Accept") {
				t.Errorf("%s: header %v, %d bytes", path, h, len(body))
			}
		}
	}
	_, fragment := get(t, "POST", url+"/predict?highlight=fragment", "", "{}")
	if fmt.Sprint(marks(t, fragment)) != three || strings.Contains(fragment, "<html") {
		t.Errorf("fragment: %s", fragment)
	}
	if _, body := get(t, "POST", url+"/predict?highlight=json", asBrowser, "{}"); body != answer {
		t.Errorf("json: %s", body)
	}
	if _, body := get(t, "POST", url+"/predict?highlight=page", "application/json", "{}"); !strings.Contains(body, "<html") {
		t.Errorf("page: %s", body)
	}
	// A documentation site's own parameter of that name.
	if _, body := get(t, "POST", url+"/predict?highlight=word", "", "{}"); body != answer {
		t.Errorf("another highlight: %s", body)
	}
}

func TestTextsAreTakenFromTheRequestWhereTheAnswerLacksThem(t *testing.T) {
	up := nodes(t)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight {\n max_body 100KiB\n }\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	for _, body := range []string{
		`{"text":"` + sentence + `"}`, `{"inputs":"` + sentence + `"}`, `{"texts":["` + sentence + `"]}`,
		`{"data":["` + sentence + `",0.5,true]}`, `{"x":1,"sentence":"` + sentence + `"}`,
	} {
		if _, out := get(t, "POST", c.URL("S")+"/bare", asBrowser, body); fmt.Sprint(marks(t, out)) != "[PER 马云]" {
			t.Errorf("%s: %s", body, out)
		}
	}
	if _, out := get(t, "POST", c.URL("S")+"/bare", asBrowser, "text="+sentence, "Content-Type", "application/x-www-form-urlencoded"); fmt.Sprint(marks(t, out)) != "[PER 马云]" {
		t.Errorf("form: %s", out)
	}
	// Not known, not guessed: the answer stays as it is.
	for _, body := range []string{"", "{}", `{"text":5}`, `{"text":"` + strings.Repeat("长", 100<<10) + `"}`} {
		resp, out := get(t, "POST", c.URL("S")+"/bare", asBrowser, body)
		if !strings.HasPrefix(out, `[{"entity_group"`) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("without a text: %s", out)
		}
	}
}

func TestWhatIsNoAnswerPasses(t *testing.T) {
	up := nodes(t)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	for _, path := range []string{"/other", "/error", "/fixed", "/large", "/page", "/plain", "/page.br", "/nowhere"} {
		want, wantBody := get(t, "GET", up.URL+path, asBrowser, "")
		got, body := get(t, "GET", c.URL("S")+path, asBrowser, "")
		if got.StatusCode != want.StatusCode || body != wantBody || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") ||
			got.Header.Get("ETag") != want.Header.Get("ETag") || got.Header.Get("Content-Encoding") != want.Header.Get("Content-Encoding") {
			t.Errorf("%s: %d %v, %d bytes; the node says %d %v, %d bytes", path, got.StatusCode, got.Header, len(body), want.StatusCode, want.Header, len(wantBody))
		}
	}
	resp, body := get(t, "HEAD", c.URL("S")+"/predict", asBrowser, "")
	if resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Type") != htmlType || resp.Header.Get("Content-Length") != "" {
		t.Errorf("HEAD: %d %v %q", resp.StatusCode, resp.Header, body)
	}
	if resp, _ := get(t, "GET", c.URL("S")+"/nobody", asBrowser, ""); resp.StatusCode != 404 {
		t.Errorf("404: %d", resp.StatusCode)
	}
}

func TestEntityTagsTellTheFormsApart(t *testing.T) {
	up := nodes(t)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	url := c.URL("S") + "/predict?highlight=page"
	resp, _ := get(t, "GET", url, "", "")
	etag := resp.Header.Get("ETag")
	if etag == "" || etag == `"v1"` {
		t.Fatalf("the page's ETag is %q", etag)
	}
	resp, _ = get(t, "GET", url, "", "", "If-None-Match", etag)
	if resp.StatusCode != 304 || resp.Header.Get("ETag") != etag {
		t.Errorf("with its own tag: %d %q", resp.StatusCode, resp.Header.Get("ETag"))
	}
	if resp, body := get(t, "GET", url, "", "", "If-None-Match", `"v1"`); resp.StatusCode != 200 || !strings.Contains(body, "<mark") {
		t.Errorf("with the JSON's tag: %d, which says that the page is the JSON", resp.StatusCode)
	}
	if resp, _ := get(t, "GET", c.URL("S")+"/predict", "application/json", "", "If-None-Match", `"v1"`); resp.StatusCode != 304 {
		t.Errorf("the JSON with its tag: %d", resp.StatusCode)
	}
}

// finder is a service that finds the three words; it fails while broken.
func finder(t *testing.T, calls *int, status int) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*calls++
		var in struct{ Texts []string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if status != 200 {
			w.WriteHeader(status)
			return
		}
		results := []any{}
		for _, text := range in.Texts {
			output := []any{}
			for word, label := range map[string]string{"马云": "PER", "杭州": "LOC", "阿里巴巴": "ORG"} {
				if before, _, found := strings.Cut(text, word); found {
					at := len([]rune(before))
					output = append(output, map[string]any{"type": label, "span": word, "start": at, "end": at + len([]rune(word))})
				}
			}
			results = append(results, map[string]any{"text": text, "output": output})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestPagesAreAnnotatedByAnEndpoint(t *testing.T) {
	up := nodes(t)
	calls := 0
	find := finder(t, &calls, 200)
	c := caddyrun.Start(t, "http://ADDR_S {\n encode\n ner_highlight {\n annotate "+find.URL+"\n }\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	url := c.URL("S")
	for _, path := range []string{"/page", "/page.gzip", "/page.zstd"} {
		resp, body := get(t, "GET", url+path, asBrowser, "")
		if got := fmt.Sprint(marks(t, body)); got != three {
			t.Errorf("%s: marks %s in %s", path, got, body)
		}
		if tags.ReplaceAllString(body, "") != page {
			t.Errorf("%s: the rest of the page was changed: %s", path, body)
		}
		h := resp.Header
		if h.Get("Content-Encoding") != "" || h.Get("Accept-Ranges") != "" || h.Get("Last-Modified") != "" || h.Get("ETag") == `"p1"` {
			t.Errorf("%s: header %v", path, h)
		}
		if got := resp.Trailer.Get("X-Ner"); !strings.HasPrefix(got, "entities=3;") || !strings.HasSuffix(got, "degraded=0") {
			t.Errorf("%s: trailer %q", path, got)
		}
	}
	if calls != 1 {
		t.Errorf("the service was asked %d times about one paragraph", calls)
	}
	if resp, _ := get(t, "GET", url+"/page", asBrowser, ""); resp.Header.Get("Content-Security-Policy") != "default-src 'self'" {
		t.Errorf("the page's policy became %q", resp.Header.Values("Content-Security-Policy"))
	}

	_, body := get(t, "GET", url+"/gbk", asBrowser, "")
	if got, want := tags.ReplaceAllString(body, ""), string(gbk(t, strings.Replace(page, "utf-8", "gbk", 1))); got != want || strings.Count(body, "<mark") != 3 {
		t.Errorf("the page in GBK: %q", body)
	}
	for _, path := range []string{"/utf16", "/empty", "/page.br", "/error", "/predict"} {
		want, wantBody := get(t, "GET", up.URL+path, "", "")
		if got, body := get(t, "GET", url+path, "", ""); body != wantBody || got.StatusCode != want.StatusCode || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
			t.Errorf("%s: %d %v %q", path, got.StatusCode, got.Header, body)
		}
	}
	if resp, body := get(t, "GET", url+"/page", asBrowser, "", "Range", "bytes=10-19"); resp.StatusCode != 206 || body != page[10:20] {
		t.Errorf("a range: %d %q", resp.StatusCode, body)
	}
	if resp, body := get(t, "HEAD", url+"/page", asBrowser, ""); resp.StatusCode != 200 || body != "" || resp.Header.Get("Content-Length") == fmt.Sprint(len(page)) {
		t.Errorf("HEAD: %d %v", resp.StatusCode, resp.Header)
	}
	if _, body := get(t, "GET", url+"/page?highlight=json", asBrowser, ""); body != page {
		t.Errorf("as it came: %s", body)
	}

	// Pages for one reader are not given to others.
	for _, header := range []string{"Cookie", "Authorization"} {
		if _, body := get(t, "GET", url+"/page", asBrowser, "", header, "x=y"); body != page {
			t.Errorf("with %s: %s", header, body)
		}
	}

	// Plain text becomes a page for browsers, and no script with it.
	resp, body := get(t, "GET", url+"/plain", asBrowser, "")
	if fmt.Sprint(marks(t, body)) != three || strings.Contains(body, "<script") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") ||
		!strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("plain text: %v %s", resp.Header, body)
	}
	if resp, body := get(t, "GET", url+"/plain", "*/*", ""); !strings.HasPrefix(body, "<script>") || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("plain text for programs: %v %s", resp.Header, body)
	}

	// The look of the marks.
	href := regexp.MustCompile(`href="(/_ner[^"]*)"`).FindStringSubmatch(mustGet(t, url+"/page"))
	if href == nil {
		t.Fatal("the page has no style sheet for its marks")
	}
	resp, css := get(t, "GET", url+href[1], "", "")
	if !strings.Contains(css, "mark.ner") || resp.Header.Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("style sheet: %v %s", resp.Header, css)
	}
}

func mustGet(t *testing.T, url string) string {
	t.Helper()
	_, body := get(t, "GET", url, asBrowser, "")
	return body
}

func TestADeadModelCostsNothingButMarks(t *testing.T) {
	up := nodes(t)
	calls := 0
	broken := finder(t, &calls, http.StatusInternalServerError)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server sees a client leave only after that
		<-r.Context().Done()
	}))
	t.Cleanup(hangs.Close)
	for name, c := range map[string]struct{ service, reason string }{
		"errors": {broken.URL, "model_error"}, "refuses": {gone.URL, "model_error"}, "hangs": {hangs.URL, "model_timeout"},
	} {
		t.Run(name, func(t *testing.T) { deadModel(t, up.Listener.Addr().String(), c.service, c.reason) })
	}
}

func deadModel(t *testing.T, up, service, reason string) {
	t.Helper()
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight {\n annotate "+service+" {\n timeout 50ms\n }\n }\n reverse_proxy "+up+"\n}")
	resp, body := get(t, "GET", c.URL("S")+"/page", asBrowser, "")
	if body != page || !strings.HasSuffix(resp.Trailer.Get("X-Ner"), reason) {
		t.Errorf("%s: %v %s", reason, resp.Trailer, body)
	}
}

// A page whose rest never came must not look whole.
func TestATruncatedPageStaysTruncated(t *testing.T) {
	up := nodes(t)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight {\n annotate builtin/ner-zh\n }\n reverse_proxy "+up.Listener.Addr().String()+"\n}")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL("S")+"/cut.gzip", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return // fine, too
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes, %d of the page's, and no error", len(b), 1000*len(page))
	}
}

func TestPagesAreAnnotatedByAModelOfThisProcess(t *testing.T) {
	up := nodes(t)
	config := "http://ADDR_S {\n ner_highlight {\n annotate builtin/ner-zh {\n budget 1m\n timeout 1m\n }\n }\n reverse_proxy " + up.Listener.Addr().String() + "\n}"
	c := caddyrun.Start(t, config)
	for range 3 {
		_, body := get(t, "GET", c.URL("S")+"/page", asBrowser, "", "Cookie", "session=mine")
		if got := fmt.Sprint(marks(t, body)); got != three {
			t.Fatalf("marks %s in %s", got, body)
		}
		c.Reload(strings.Replace(config, "1m", "2m", 1))
	}
}

// Blocks that are finished are sent while the page is still coming.
func TestPagesStream(t *testing.T) {
	more := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = http.NewResponseController(w).Flush() // many servers send the header first
		time.Sleep(20 * time.Millisecond)
		_, _ = io.WriteString(w, "<p>"+sentence+"</p><p>")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "完</p>")
	}))
	t.Cleanup(up.Close)
	c := caddyrun.Start(t, "http://ADDR_S {\n ner_highlight {\n annotate builtin/ner-zh {\n budget 1m\n timeout 1m\n }\n }\n reverse_proxy "+up.Listener.Addr().String()+" {\n flush_interval -1\n }\n}")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL("S")+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var seen []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(seen, []byte("</p>")) {
		n, err := resp.Body.Read(buf)
		if seen = append(seen, buf[:n]...); err != nil {
			t.Fatalf("%v after %s", err, seen)
		}
	}
	if got := fmt.Sprint(marks(t, string(seen))); got != three {
		t.Errorf("marks %s in the first part, %s", got, seen)
	}
	close(more)
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !strings.HasSuffix(string(seen)+string(rest), "<p>完</p>") {
		t.Errorf("%v, the rest is %s", err, rest)
	}
}

// startTime is when the pages were last changed.
var startTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
