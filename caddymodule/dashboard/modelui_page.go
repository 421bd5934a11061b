package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	textlanguage "golang.org/x/text/language"
)

//go:embed model_ui
var files embed.FS

// document is a response body with what HTTP needs to know about it.
type document struct {
	body              []byte
	contentType, etag string
}

func newDocument(contentType string, body []byte) document {
	sum := sha256.Sum256(body)
	return document{body: body, contentType: contentType, etag: `"` + hex.EncodeToString(sum[:12]) + `"`}
}

// assets holds the static files by their path relative to the page. Types are
// fixed here: the tables that Go's mime package reads differ between hosts.
var assets = map[string]document{
	"model_ui/app.js":    newDocument("text/javascript; charset=utf-8", mustRead("model_ui/app.js")),
	"model_ui/render.js": newDocument("text/javascript; charset=utf-8", mustRead("model_ui/render.js")),
	"model_ui/app.css":   newDocument("text/css; charset=utf-8", mustRead("model_ui/app.css")),
	"model_ui/icon.svg":  newDocument("image/svg+xml", mustRead("model_ui/icon.svg")),
}

var pageTemplate = template.Must(template.ParseFS(files, "model_ui/index.html"))

// translations holds every text of the page by language and key. The template
// fills in one language, the page's script switches between all of them.
var translations = func() (t map[string]map[string]string) {
	if err := json.Unmarshal(mustRead("model_ui/strings.json"), &t); err != nil {
		panic(err) // an embedded file: can only fail in a build that no test has seen
	}
	return t
}()

func mustRead(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic(err) // an embedded file, as above
	}
	return b
}

// examples are the sentences users know from the articles on RaNER and StructBERT.
var examples = map[string][]string{
	"ner": {
		"马云在杭州阿里巴巴总部发表演讲。",
		"清华大学与中科院联合发布新研究成果。",
		"特朗普访问华盛顿特区白宫。",
	},
	"sentiment": {
		"这个产品太棒了!",
		"太差了,等了一个小时还没送到。",
	},
}

// renderPage renders the page in one language. Settings of the operator enter
// the HTML only through html/template.
func renderPage(m *ModelUI, lang string) (document, error) {
	other := "en"
	if lang == "en" {
		other = "zh"
	}
	title := m.Title
	if title == "" {
		title = translations[lang]["title_"+m.Task]
	}
	shown := examples[m.Task]
	if m.Task == "auto" {
		shown = append(append(shown, examples["ner"]...), examples["sentiment"]...)
	}
	api := relativePath(m.Path, m.API)
	var out bytes.Buffer
	err := pageTemplate.Execute(&out, map[string]any{
		"Lang": lang, "OtherLang": other, "OtherLangName": translations[other]["name"],
		"Title": title, "Task": m.Task, "API": api,
		"T": translations[lang], "Examples": shown, "FirstExample": shown[0],
		"Config": map[string]any{
			"api": api, "task": m.Task, "title": m.Title, "strings": translations,
		},
	})
	if err != nil {
		return document{}, fmt.Errorf("executing the template: %w", err)
	}
	return newDocument("text/html; charset=utf-8", out.Bytes()), nil
}

// relativePath returns the reference that leads from a page at directory from
// (which ends with a slash) to the path to: "/ui/" and "/predict" give "../predict".
func relativePath(from, to string) string {
	dirs := strings.Split(strings.Trim(from, "/"), "/")
	if dirs[0] == "" {
		dirs = nil
	}
	rest := strings.TrimPrefix(to, "/")
	for len(dirs) > 0 {
		after, ok := strings.CutPrefix(rest, dirs[0]+"/")
		if !ok {
			break
		}
		dirs, rest = dirs[1:], after
	}
	up := strings.Repeat("../", len(dirs))
	if up == "" && (rest == "" || strings.HasPrefix(rest, "/") || strings.ContainsAny(rest, ":?")) {
		up = "./" // else read as another site, a scheme or the page's own address
	}
	return up + rest
}

// The first language is the one for readers who ask for neither.
var languages = textlanguage.NewMatcher([]textlanguage.Tag{textlanguage.English, textlanguage.Chinese})

// language picks the page's language: the query of the switch on the page, then
// what the browser asks for.
func language(r *http.Request) string {
	if lang := r.URL.Query().Get("lang"); translations[lang] != nil {
		return lang
	}
	tags, _, err := textlanguage.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil {
		return "en"
	}
	if _, index, _ := languages.Match(tags...); index == 1 {
		return "zh"
	}
	return "en"
}
