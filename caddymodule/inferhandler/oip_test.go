package inferhandler

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func oipHandler(task modeldir.Task) *Handler {
	h := newHandler(&fakeModel{task: task})
	h.Protocol = protocolOIP
	h.info.Labels = []string{"negative", "positive"}
	return h
}

func oipAsk(t testing.TB, h *Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, nil); err != nil {
		t.Fatalf("the handler passed on the error %v", err)
	}
	checkAnswer(t, w.Result())
	return w
}

func TestServerAndModelTellOfThemselves(t *testing.T) {
	h := oipHandler(modeldir.SequenceClassification)
	for path, want := range map[string]string{
		"/v2/health/live":                      `{"live":true}`,
		"/v2/health/ready":                     `{"ready":true}`,
		"/api/v2/health/ready":                 `{"ready":true}`,
		"/v2/models/fake/ready":                `{"name":"fake","ready":true}`,
		"/v2/models/fake/versions/0123/ready":  `{"name":"fake","ready":true}`,
		"/v2/models/fake":                      `{"name":"fake","versions":["0123"],"platform":"caddy-infer_fake","inputs":[{"name":"text","datatype":"BYTES","shape":[-1]}],"outputs":[{"name":"label","datatype":"BYTES","shape":[-1]},{"name":"score","datatype":"FP64","shape":[-1]},{"name":"scores","datatype":"FP64","shape":[-1,2]}]}`,
		"/v2/models/fake/versions/0123":        `{"name":"fake","versions":["0123"]`,
		"/v2":                                  `{"extensions":["binary_tensor_data"],"name":"caddy-infer","version":`,
		"/v2/":                                 `{"extensions":["binary_tensor_data"],"name":"caddy-infer","version":`,
		"/v2/models/other":                     `404 there is no such model here: this one is fake`,
		"/v2/models/fake/versions/9/ready":     `404 there is no such version of fake: this one is 0123`,
		"/v2/models/":                          `404 the Open Inference Protocol has no such path`,
		"/v2/repository/index":                 `404 the Open Inference Protocol has no such path`,
		"/v2/models/fake/infer":                `405 method not allowed here: use POST`,
		"/v2/models/fake/versions/0123/infer":  `405 method not allowed here: use POST`,
		"/v2/models/fake/versions/a/b/c/ready": `404 there is no such model here`,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path, r.URL.RawPath = path, path
		w := httptest.NewRecorder()
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Fatal(err)
		}
		code, message := 200, want
		if _, err := fmt.Sscanf(want, "%d ", &code); err == nil {
			message = `{"error":"` + want[4:]
		}
		if w.Code != code || !strings.HasPrefix(w.Body.String(), message) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := oipAsk(t, h, http.MethodPost, "/v2/health/live", ""); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	h.model.(*fakeModel).released.Store(true)
	h.reacquire = nil
	if w := oipAsk(t, h, http.MethodGet, "/v2/health/ready", ""); w.Code != 503 {
		t.Errorf("a broken model: %d %s", w.Code, w.Body)
	}
}

// The handler's own forms stay where they are.
func TestProtocolStandsBesideTheHandlersOwnForms(t *testing.T) {
	h := oipHandler(modeldir.TokenClassification)
	if w := oipAsk(t, h, http.MethodPost, "/predict", `{"text":"马云"}`); w.Code != 200 || !strings.HasPrefix(w.Body.String(), `{"text":"马云"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.Protocol = ""
	if w := oipAsk(t, h, http.MethodGet, "/v2/health/live", ""); w.Code != 405 {
		t.Errorf("without `protocol oip`: %d %s", w.Code, w.Body)
	}
}

func tensor(shape, data string) string {
	return `{"inputs":[{"name":"text","datatype":"BYTES","shape":` + shape + `,"data":` + data + `}]}`
}

func TestInferAnswersTensors(t *testing.T) {
	entities := oipHandler(modeldir.TokenClassification)
	classes := oipHandler(modeldir.SequenceClassification)
	for _, tt := range []struct {
		h          *Handler
		body, want string
	}{
		{
			entities, tensor("[2]", `["马云","云"]`),
			`{"model_name":"fake","model_version":"0123","outputs":[{"name":"entities","datatype":"BYTES","shape":[2],"data":["[{\"type\":\"PER\",\"start\":0,\"end\":2,\"span\":\"马云\",\"prob\":0.875}]","[]"]}]}`,
		},
		{
			classes, tensor("[2,1]", `[["好"],["坏"]]`),
			`{"model_name":"fake","model_version":"0123","outputs":[{"name":"label","datatype":"BYTES","shape":[2],"data":["positive","positive"]},{"name":"score","datatype":"FP64","shape":[2],"data":[0.8,0.8]},{"name":"scores","datatype":"FP64","shape":[2,2],"data":[0.2,0.8,0.2,0.8]}]}`,
		},
		{
			classes, `{"id":"7","parameters":{"priority":1,"timeout":"5000000"},"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["好"]}],"outputs":[{"name":"score","parameters":{"binary_data":false}},{"name":"label"}]}`,
			`{"model_name":"fake","model_version":"0123","id":"7","outputs":[{"name":"score","datatype":"FP64","shape":[1],"data":[0.8]},{"name":"label","datatype":"BYTES","shape":[1],"data":["positive"]}]}`,
		},
	} {
		w := oipAsk(t, tt.h, http.MethodPost, "/v2/models/fake/infer", tt.body)
		if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != tt.want {
			t.Errorf("%d %s\nwant %s", w.Code, got, tt.want)
		}
		if w.Header().Get("Server-Timing") == "" || w.Header().Get("X-Inference-Model") != "fake" {
			t.Errorf("headers %v", w.Header())
		}
	}
}

func binaryText(texts ...string) string {
	var raw []byte
	for _, s := range texts {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(len(s))) //nolint:gosec // short
		raw = append(raw, s...)
	}
	return string(raw)
}

func binaryBody(n, size int, raw string) (header, body string) {
	text := fmt.Sprintf(`{"inputs":[{"name":"text","datatype":"BYTES","shape":[%d],"parameters":{"binary_data_size":%d}}]}`, n, size)
	return fmt.Sprint(len(text)), text + raw
}

func TestTextsComeInBinaryToo(t *testing.T) {
	h := oipHandler(modeldir.TokenClassification)
	raw := binaryText("马云在杭州", "李娜")
	length, body := binaryBody(2, len(raw), raw)
	w := oipAsk(t, h, http.MethodPost, "/v2/models/fake/infer", body, oipHeaderLength, length)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `\"span\":\"马云\"`) || !strings.Contains(w.Body.String(), `\"span\":\"李娜\"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for name, bad := range map[string]struct {
		n, size int
		raw     string
	}{
		"cut off":        {1, 5, binaryText("马云")[:5]},
		"too few":        {2, len(binaryText("马云")), binaryText("马云")},
		"too many":       {1, len(raw), raw},
		"rest":           {1, len(binaryText("马云")) + 1, binaryText("马云") + "x"},
		"wrong size":     {1, 3, binaryText("马云")},
		"negative size":  {1, -1, binaryText("马云")},
		"no length":      {1, 2, "ab"},
		"huge length":    {1, 4, "\xff\xff\xff\xff"},
		"no UTF-8":       {1, 5, binaryText("\xff")},
		"an empty text":  {1, 4, binaryText("")},
		"nothing at all": {1, 0, ""},
	} {
		length, body := binaryBody(bad.n, bad.size, bad.raw)
		if w := oipAsk(t, h, http.MethodPost, "/v2/models/fake/infer", body, oipHeaderLength, length); w.Code != 400 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	for _, length := range []string{"x", "-1", "100000", "0", "10"} {
		if w := oipAsk(t, h, http.MethodPost, "/v2/models/fake/infer", body, oipHeaderLength, length); w.Code != 400 {
			t.Errorf("header length %s: %d %s", length, w.Code, w.Body)
		}
	}
}

func TestMalformedInferenceRequestsSayWhatIsWrong(t *testing.T) {
	h := oipHandler(modeldir.TokenClassification)
	h.MaxTexts, h.MaxBody = 3, 2000
	for body, want := range map[string]string{
		``:                           `No text provided`,
		`{`:                          `not valid JSON at line 1`,
		`[]`:                         `is not an inference request`,
		`{"inputs":{}}`:              `is not an inference request`,
		`{"inputs":[]}`:              `give one input, with the name \"text\"`,
		tensor("[1]", "null"):        `the shape of the input \"text\" says 1 texts, its data has 0`,
		tensor("[2]", `["a"]`):       `says 2 texts, its data has 1`,
		tensor("[1]", `["a","b"]`):   `says 1 texts, its data has 2`,
		tensor("[1]", `[1]`):         `must be an array of strings`,
		tensor("[1]", `[["a","b"]]`): `row 0 of the input \"text\" must have one string`,
		tensor("[1]", `[""]`):        `No text provided in element 0`,
		tensor("[]", `["a"]`):        `shape [n] or [n,1]`,
		tensor("[1,2]", `["a"]`):     `shape [n] or [n,1]`,
		tensor("[0]", `[]`):          `one text or more`,
		tensor("[-1]", `["a"]`):      `one text or more`,
		tensor("[1.5]", `["a"]`):     `one text or more`,
		tensor("[4]", `["a"]`):       `413 the input \"text\" has more than 3 texts`,
		tensor("[1e99]", `["a"]`):    `one text or more`,
		`{"inputs":[{"name":"text","datatype":"FP32","shape":[1],"data":["a"]}]}`:                                `must have the datatype BYTES`,
		`{"inputs":[{"name":"x","datatype":"BYTES","shape":[1],"data":["a"]}]}`:                                  `with the name \"text\"`,
		`{"inputs":[{"name":"text"},{"name":"text"}]}`:                                                           `give one input`,
		strings.Replace(tensor("[1]", `["a"]`), "{", `{"id":7,`, 1):                                              `id must be a string`,
		strings.Replace(tensor("[1]", `["a"]`), "{", `{"parameters":{"timeout":"soon"},`, 1):                     `microseconds`,
		strings.Replace(tensor("[1]", `["a"]`), "{", `{"outputs":[{"name":"label"}],`, 1):                        `there is no such output, or it is asked for twice; there are: entities`,
		strings.Replace(tensor("[1]", `["a"]`), "{", `{"outputs":[{"name":"entities"},{"name":"entities"}],`, 1): `asked for twice`,
		tensor("[1]", strings.Repeat("[", 50)+strings.Repeat("]", 50)):                                           `nested more than`,
		tensor("[1]", `["`+strings.Repeat("x", 2000)+`"]`):                                                       `413 the request body is larger`,
		"{\"inputs\":\"\xff\"}": `not valid UTF-8`,
	} {
		code := 400
		if strings.HasPrefix(want, "413 ") {
			code, want = 413, want[4:]
		}
		w := oipAsk(t, h, http.MethodPost, "/v2/models/fake/infer", body)
		if w.Code != code || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%.80s: %d %s, want %d %s", body, w.Code, w.Body, code, want)
		}
	}
}

func TestTimeoutOfTheProtocolShortensTheHandlersOwn(t *testing.T) {
	body := strings.Replace(tensor("[1]", `["a"]`), "{", `{"parameters":{"timeout":1500},`, 1)
	req, err := parseOIP([]byte(body), "", 1)
	if err != nil || req.timeout != 1500*time.Microsecond {
		t.Errorf("%+v, %v", req, err)
	}
}

func TestNamesWithSlashesAreFound(t *testing.T) {
	for path, want := range map[string]oipPath{
		"/v2/models/builtin/ner-zh/infer":            {"builtin/ner-zh", "", "infer"},
		"/v2/models/builtin%2Fner-zh/ready":          {"builtin/ner-zh", "", "ready"},
		"/v2/models/builtin/ner-zh/versions/1/infer": {"builtin/ner-zh", "1", "infer"},
		"/x/y/v2/models/ner":                         {"ner", "", ""},
		"/v2/models/ner/versions/abc":                {"ner", "abc", ""},
	} {
		if got, ok := parseOIPPath(path); !ok || got != want {
			t.Errorf("%s: %+v, %v", path, got, ok)
		}
	}
}

func FuzzOIP(f *testing.F) {
	f.Add([]byte(tensor("[1]", `["马云"]`)), "")
	f.Add([]byte(tensor("[2,1]", `[["a"],["b"]]`)), "")
	raw := binaryText("马云", "b")
	length, body := binaryBody(2, len(raw), raw)
	f.Add([]byte(body), length)
	h := oipHandler(modeldir.TokenClassification)
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		req, err := parseOIP(body, length, 4)
		if err != nil {
			e, ok := err.(*requestError) //nolint:errorlint // it must be one itself
			if !ok || e.status/100 != 4 || !utf8.ValidString(e.message) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if len(req.texts) < 1 || len(req.texts) > 4 {
			t.Fatalf("%d texts", len(req.texts))
		}
		results := make([]inference.Result, len(req.texts))
		for i, text := range req.texts {
			if text == "" || !utf8.ValidString(text) {
				t.Errorf("text %q", text)
			}
			results[i] = inference.Result{Text: text, Entities: firstTwo(text)}
		}
		outputs := h.oipOutputs()
		if err := outputs[0].fill(results); err != nil {
			t.Fatal(err)
		}
		var entities []inference.Entity
		if err := json.Unmarshal([]byte(outputs[0].Data.([]string)[0]), &entities); err != nil {
			t.Error(err)
		}
	})
}
