package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"
)

// stub is a model service with the shapes of DESIGN's inference API that finds
// the words it was given: what the browser shows then depends on the page alone.
type stub struct {
	*httptest.Server
	handler http.HandlerFunc // replaces the answer when set
}

var known = []struct{ span, kind string }{
	{"马云", "PER"},
	{"特朗普", "PER"},
	{"杭州", "LOC"},
	{"华盛顿特区", "LOC"},
	{"白宫", "ORG"},
	{"阿里巴巴", "ORG"},
	{"清华大学", "ORG"},
	{"中科院", "ORG"},
	{"馬雲", "PER"},
	{"ＩＢＭ", "ORG"},
	{"北京大学", "ORG"},
	{"北京", "LOC"}, // nested
	{"华为P60", "PRODUCT"},
}

type entity struct {
	Type  string  `json:"type"`
	Start int     `json:"start"`
	End   int     `json:"end"`
	Span  string  `json:"span"`
	Prob  float64 `json:"prob"`
}

func newStub(t *testing.T) *stub {
	s := new(stub)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.handler != nil {
			s.handler(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func answer(w http.ResponseWriter, r *http.Request) {
	var request struct{ Text string }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Server-Timing", "queue;dur=0.2, tokenize;dur=0.1, run;dur=3.4, decode;dur=0.3, total;dur=4.2")
	for word, label := range map[string]string{"太棒了": "Positive", "太差了": "Negative"} {
		if strings.Contains(request.Text, word) {
			labels, scores := []string{"Negative", "Positive"}, []float64{0.03, 0.97}
			if label == "Negative" {
				scores = []float64{0.97, 0.03}
			}
			reply(w, map[string]any{"text": request.Text, "label": label, "score": 0.97, "labels": labels, "scores": scores})
			return
		}
	}
	found := []entity{}
	for _, word := range known {
		for from := 0; ; {
			i := strings.Index(request.Text[from:], word.span)
			if i < 0 {
				break
			}
			start := utf8.RuneCountInString(request.Text[:from+i])
			found = append(found, entity{word.kind, start, start + utf8.RuneCountInString(word.span), word.span, 0.987})
			from += i + len(word.span)
		}
	}
	reply(w, map[string]any{"text": request.Text, "output": found})
}

func reply(w http.ResponseWriter, value any) {
	if err := json.NewEncoder(w).Encode(value); err != nil {
		panic(err) // the test's own values
	}
}
