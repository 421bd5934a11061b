package clients

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/caddy-infer/caddy-infer/internal/caddyrun"
)

// Each request and each answer is as the description that the handler itself
// gives has them.
func TestAnswersAreAsDescribed(t *testing.T) {
	c := caddyrun.Start(t, caddyfile)
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	const tensor = `{"id":"1","inputs":[{"name":"text","datatype":"BYTES","shape":[2],"data":["马云在杭州","太差了"]}]}`
	for _, model := range []string{"ner", "sentiment", "plain"} {
		document, err := openapi3.NewLoader().LoadFromData(description(t, c, "/"+model))
		if err != nil {
			t.Fatal(err)
		}
		if err := document.Validate(t.Context()); err != nil {
			t.Fatal(err)
		}
		router, err := gorillamux.NewRouter(document)
		if err != nil {
			t.Fatal(err)
		}
		if oip := document.Paths.Value("/v2/models/{model}/infer") != nil; oip != (model != "plain") {
			t.Errorf("%s: the Open Inference Protocol is described: %v", model, oip)
		}
		for _, tt := range []struct {
			method, path, body string
			status             int
			bad                bool // the request is not as described
		}{
			{"POST", "/predict", `{"text":"马云在杭州"}`, 200, false},
			{"POST", "/predict", `{"texts":["马云在杭州","今天"]}`, 200, false},
			{"POST", "/predict", `{"inputs":"马云在杭州"}`, 200, false},
			{"POST", "/predict", `{"inputs":["马云在杭州","太差了"]}`, 200, false},
			{"POST", "/predict", `{}`, 400, true},
			{"POST", "/predict", `{"text":7}`, 400, true},
			{"POST", "/predict", `{"text":"` + strings.Repeat("长", 20_000) + `"}`, 413, false},
			{"GET", "/health", "", 200, false},
			{"GET", "/v2", "", 200, false},
			{"GET", "/v2/health/live", "", 200, false},
			{"GET", "/v2/health/ready", "", 200, false},
			{"GET", "/v2/models/" + model, "", 200, false},
			{"GET", "/v2/models/" + model + "/ready", "", 200, false},
			{"POST", "/v2/models/" + model + "/infer", tensor, 200, false},
			{"POST", "/v2/models/" + model + "/infer", `{"inputs":[]}`, 400, true},
			{"POST", "/v2/models/" + model + "/infer", strings.Replace(tensor, "[2]", "[3]", 1), 400, false},
			{"POST", "/v2/models/" + model + "/infer", strings.Replace(tensor, "[2]", "[999]", 1), 413, false},
		} {
			if model == "plain" && strings.HasPrefix(tt.path, "/v2") {
				continue
			}
			name := model + " " + tt.method + " " + tt.path + " " + tt.body[:min(60, len(tt.body))]
			// The described server is relative: the description's own address.
			described, err := http.NewRequestWithContext(t.Context(), tt.method, "/"+model+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			asked := described.Clone(t.Context())
			asked.Body = io.NopCloser(strings.NewReader(tt.body))
			asked.URL.Scheme, asked.URL.Host = "http", c.Addr("API")
			if tt.body != "" {
				described.Header.Set("Content-Type", "application/json")
				asked.Header.Set("Content-Type", "application/json")
			}
			route, params, err := router.FindRoute(described)
			if err != nil {
				t.Errorf("%s: not described: %v", name, err)
				continue
			}
			input := &openapi3filter.RequestValidationInput{Request: described, PathParams: params, Route: route}
			if err := openapi3filter.ValidateRequest(t.Context(), input); (err != nil) != tt.bad {
				t.Errorf("%s: the request: %v", name, err)
			}
			resp, err := client.Do(asked)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != tt.status {
				t.Errorf("%s: %d %s %v", name, resp.StatusCode, body, err)
			}
			err = openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: input, Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
			})
			if err != nil {
				t.Errorf("%s: %s: %v", name, body, err)
			}
		}
	}
}
