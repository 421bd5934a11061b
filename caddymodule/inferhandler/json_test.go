package inferhandler

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestJSONIsCheckedLikeTheCaddyfile: what the Caddyfile refuses at its line is
// refused in JSON too.
func TestJSONIsCheckedLikeTheCaddyfile(t *testing.T) {
	dir := modelDir(t)
	for name, tt := range map[string]struct{ models, handler, want string }{
		"good":             {`"ner":{"ref":"DIR","engine":"scripted","batch_wait":"2ms"}`, `"model":"ner","timeout":"5s"`, ""},
		"no ref":           {`"ner":{}`, `"model":"ner"`, `inference model "ner": ref is missing: give builtin/`},
		"null":             {`"ner":null`, `"model":"ner"`, `inference model "ner": ref is missing`},
		"empty name":       {`"":{"ref":"DIR"}`, `"model":"ner"`, "empty name"},
		"negative":         {`"ner":{"ref":"DIR","workers":-1}`, `"model":"ner"`, `inference model "ner": workers -1`},
		"unknown option":   {`"ner":{"ref":"DIR","colour":10}`, `"model":"ner"`, `unknown field "colour"`},
		"no model":         {``, `"timeout":"5s"`, "the inference handler has no model: give a name of the inference app, builtin/"},
		"negative body":    {`"ner":{"ref":"DIR","engine":"scripted"}`, `"model":"ner","max_body":-1`, "max_body -1"},
		"negative texts":   {`"ner":{"ref":"DIR","engine":"scripted"}`, `"model":"ner","max_texts":-1`, "max_texts -1"},
		"negative timeout": {`"ner":{"ref":"DIR","engine":"scripted"}`, `"model":"ner","timeout":"-1s"`, "timeout -1s"},
	} {
		t.Run(name, func(t *testing.T) {
			var config caddy.Config
			text := fmt.Sprintf(`{"admin":{"disabled":true,"config":{"persist":false}},"apps":{"inference":{"models":{%s}},
				"http":{"servers":{"s":{"routes":[{"handle":[{"handler":"inference",%s}]}]}}}}}`, tt.models, tt.handler)
			if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "DIR", dir)), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(&config)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q", err, tt.want)
			}
			wantUnloaded(t)
		})
	}
}
