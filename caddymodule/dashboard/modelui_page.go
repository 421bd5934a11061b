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
	"slices"
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
var assets = func() map[string]document {
	all := map[string]document{
		"model_ui/app.css":  newDocument("text/css; charset=utf-8", mustRead("model_ui/app.css")),
		"model_ui/icon.svg": newDocument("image/svg+xml", mustRead("model_ui/icon.svg")),
	}
	for _, name := range []string{"app", "ask", "batch", "export", "latency", "render", "rows", "shapes", "words"} {
		file := "model_ui/" + name + ".js"
		all[file] = newDocument("text/javascript; charset=utf-8", mustRead(file))
	}
	return all
}()

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

// pageModel is a model as the page's script knows it.
type pageModel struct {
	API      string   `json:"api"` // relative to the page
	Task     string   `json:"task"`
	Examples []string `json:"examples"`
}

func (m *ModelUI) models() []pageModel {
	models := append(make([]pageModel, 0, 1+len(m.Also)), pageModel{m.API, m.Task, nil})
	for _, other := range m.Also {
		models = append(models, pageModel{other.API, other.Task, nil})
	}
	for i := range models {
		model := &models[i]
		model.API = relativePath(m.Path, model.API)
		switch {
		case len(m.Examples) > 0:
			model.Examples = m.Examples
		case model.Task == "auto":
			model.Examples = slices.Concat(examples["ner"], examples["sentiment"])
		default:
			model.Examples = examples[model.Task]
		}
	}
	return models
}

// renderPage renders the page in one language. Settings of the operator enter
// the HTML only through html/template.
func renderPage(m *ModelUI, lang string) (document, error) {
	other := "en"
	if lang == "en" {
		other = "zh"
	}
	models := m.models()
	title, titleKey := m.Title, "title_"+m.Task
	if len(models) > 1 {
		titleKey = "title_auto"
	}
	if title == "" {
		title = translations[lang][titleKey]
	}
	var out bytes.Buffer
	err := pageTemplate.Execute(&out, map[string]any{
		"Lang": lang, "OtherLang": other, "OtherLangName": translations[other]["name"],
		"Title": title, "T": translations[lang], "Models": models,
		"Config": map[string]any{
			"models": models, "title": m.Title, "titleKey": titleKey, "maxChars": m.MaxChars, "strings": translations,
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
