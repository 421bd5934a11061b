package inferhandler

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"text/template"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

//go:embed openapi.json.tmpl
var openapiText string

var openapi = template.Must(template.New("openapi.json").Funcs(template.FuncMap{
	"json": func(v any) (string, error) {
		text, err := json.Marshal(v)
		return string(text), err
	},
}).Parse(openapiText))

func isOpenAPIPath(p string) bool { return path.Base(p) == "openapi.json" }

// serveOpenAPI describes what this very handler answers.
func (h *Handler) serveOpenAPI(w http.ResponseWriter, r *http.Request) error {
	version, _ := caddy.Version()
	server := strings.TrimSuffix(r.URL.Path, "/openapi.json")
	if server == "" {
		server = "/"
	}
	out := getBuffer()
	defer putBuffer(out)
	err := openapi.Execute(out, struct {
		Server, Version, Model string
		Entities, OIP          bool
		MaxTexts               int
		Labels                 []string
	}{
		server, version, h.name,
		h.info.Task == modeldir.TokenClassification, h.Protocol == protocolOIP,
		h.MaxTexts, h.info.Labels,
	})
	if err != nil {
		return h.fail(w, r, err)
	}
	return writeJSON(w, http.StatusOK, out)
}
