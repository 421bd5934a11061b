package inferhandler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/decode"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// protocolOIP mounts the Open Inference Protocol v2 (KServe, Triton, MLServer,
// …) beside the handler's own forms.
const protocolOIP = "oip"

// oipPath is a path of the protocol, taken apart.
type oipPath struct {
	model, version string // empty for the server itself
	verb           string // live, ready, infer; empty for metadata
}

// parseOIPPath finds the protocol's part of an escaped path; the route may have
// put something before it. Slashes in a model's name need not be escaped.
func parseOIPPath(escaped string) (p oipPath, ok bool) {
	_, rest, found := strings.Cut(escaped+"/", "/v2/")
	if !found {
		return p, false
	}
	rest = strings.Trim(rest, "/")
	switch rest {
	case "":
		return p, true
	case "health/live", "health/ready":
		p.verb = strings.TrimPrefix(rest, "health/")
		return p, true
	}
	rest, ok = strings.CutPrefix(rest, "models/")
	if !ok {
		return p, false
	}
	for _, verb := range []string{"infer", "ready"} {
		if before, cut := strings.CutSuffix(rest, "/"+verb); cut {
			rest, p.verb = before, verb
			break
		}
	}
	if at := strings.LastIndex(rest, "/versions/"); at >= 0 && !strings.Contains(rest[at+len("/versions/"):], "/") {
		rest, p.version = rest[:at], rest[at+len("/versions/"):]
	}
	var err error
	if p.model, err = url.PathUnescape(rest); err != nil || p.model == "" {
		return p, false
	}
	return p, true
}

// isOIPPath says whether a path belongs to the protocol, even if to nothing in it.
func isOIPPath(path string) bool {
	return strings.HasSuffix(path, "/v2") || strings.Contains(path, "/v2/")
}

// versionOf a model: the begin of its digest, so that equal versions are equal
// files.
func versionOf(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(12, len(hex))]
}

func (h *Handler) serveOIP(w http.ResponseWriter, r *http.Request) error {
	p, ok := parseOIPPath(r.URL.EscapedPath())
	if !ok {
		return h.fail(w, r, &requestError{http.StatusNotFound, "the Open Inference Protocol has no such path"})
	}
	version := versionOf(h.model.Info().Digest)
	switch {
	case p.model != "" && p.model != h.name:
		return h.fail(w, r, &requestError{http.StatusNotFound, fmt.Sprintf("there is no such model here: this one is %s", h.name)})
	case p.version != "" && p.version != version:
		return h.fail(w, r, &requestError{http.StatusNotFound, fmt.Sprintf("there is no such version of %s: this one is %s", h.name, version)})
	}
	allow := "GET, HEAD"
	if p.verb == "infer" {
		allow = "POST"
	}
	if !slices.Contains(strings.Split(allow, ", "), r.Method) {
		w.Header().Set("Allow", allow)
		return h.fail(w, r, &requestError{http.StatusMethodNotAllowed, "method not allowed here: use " + allow})
	}
	switch p.verb {
	case "infer":
		return h.serveInfer(w, r)
	case "live":
		return h.reply(w, r, map[string]bool{"live": true})
	case "ready":
		return h.serveReady(w, r, p)
	}
	if p.model == "" {
		version, _ := caddy.Version()
		return h.reply(w, r, map[string]any{"name": "caddy-infer", "version": version, "extensions": []string{"binary_tensor_data"}})
	}
	return h.reply(w, r, h.oipMetadata(version))
}

// serveReady runs a forward pass, as the other health paths do.
func (h *Handler) serveReady(w http.ResponseWriter, r *http.Request, p oipPath) error {
	if err := h.check(r.Context()); err != nil {
		if clientGone(r) {
			return caddyhttp.Error(statusClientClosed, context.Canceled)
		}
		return writeError(w, http.StatusServiceUnavailable, err.Error())
	}
	if p.model == "" {
		return h.reply(w, r, map[string]bool{"ready": true})
	}
	return h.reply(w, r, map[string]any{"name": h.name, "ready": true})
}

func (h *Handler) reply(w http.ResponseWriter, r *http.Request, v any) error {
	out := getBuffer()
	defer putBuffer(out)
	if err := encode(out, v); err != nil {
		return h.fail(w, r, err)
	}
	return writeJSON(w, http.StatusOK, out)
}

// oipTensor is a tensor's description, or with data the tensor.
type oipTensor struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Shape    []int  `json:"shape"`
	Data     any    `json:"data,omitempty"`
}

func (h *Handler) oipMetadata(version string) any {
	return struct {
		Name     string      `json:"name"`
		Versions []string    `json:"versions"`
		Platform string      `json:"platform"`
		Inputs   []oipTensor `json:"inputs"`
		Outputs  []oipTensor `json:"outputs"`
	}{
		h.name,
		[]string{version},
		"caddy-infer_" + h.info.Engine.Engine,
		[]oipTensor{{Name: oipInput, Datatype: "BYTES", Shape: []int{-1}}},
		h.oipOutputs(),
	}
}

// oipOutputs describes what the model answers: for entities a JSON array of them
// in each element, as in the handler's own form.
func (h *Handler) oipOutputs() []oipTensor {
	if h.info.Task == modeldir.TokenClassification {
		return []oipTensor{{Name: "entities", Datatype: "BYTES", Shape: []int{-1}}}
	}
	return []oipTensor{
		{Name: "label", Datatype: "BYTES", Shape: []int{-1}},
		{Name: "score", Datatype: "FP64", Shape: []int{-1}},
		{Name: "scores", Datatype: "FP64", Shape: []int{-1, len(h.info.Labels)}},
	}
}

func (h *Handler) serveInfer(w http.ResponseWriter, r *http.Request) error {
	started := time.Now()
	s, err := h.schedule(r, inference.DefaultUrgency)
	if err != nil {
		return h.fail(w, r, err)
	}
	body := getBuffer()
	defer putBuffer(body)
	if err := readBody(w, r, body, h.MaxBody); err != nil {
		return h.fail(w, r, err)
	}
	req, err := parseOIP(body.Bytes(), r.Header.Get(oipHeaderLength), h.MaxTexts)
	if err != nil {
		return h.fail(w, r, err)
	}
	outputs, err := req.choose(h.oipOutputs())
	if err != nil {
		return h.fail(w, r, err)
	}
	if t := req.timeout; t > 0 {
		s.timeout = min(s.timeout, t)
	}
	ctx, cancel := s.context(r.Context())
	defer cancel()
	results, stats, err := h.predict(ctx, req.texts)
	if err != nil {
		return h.fail(w, r, s.explain(err))
	}
	for i := range outputs {
		if err := outputs[i].fill(results); err != nil {
			return h.fail(w, r, err)
		}
	}
	out := getBuffer()
	defer putBuffer(out)
	err = encode(out, struct {
		Model   string      `json:"model_name"`
		Version string      `json:"model_version"`
		ID      string      `json:"id,omitempty"`
		Outputs []oipTensor `json:"outputs"`
	}{h.name, versionOf(stats.Digest), req.id, outputs})
	if err != nil {
		return h.fail(w, r, fmt.Errorf("encoding the answer: %w", err))
	}
	h.answered(w.Header(), stats, time.Since(started), len(req.texts))
	return writeJSON(w, http.StatusOK, out)
}

// fill gives a described tensor its data.
func (t *oipTensor) fill(results []inference.Result) error {
	t.Shape = slices.Clone(t.Shape)
	t.Shape[0] = len(results)
	switch t.Name {
	case "entities":
		all := make([]string, len(results))
		for i, r := range results {
			var text bytes.Buffer
			entities := r.Entities
			if entities == nil {
				entities = []inference.Entity{}
			}
			if err := encode(&text, entities); err != nil {
				return fmt.Errorf("encoding entities: %w", err)
			}
			all[i] = strings.TrimSuffix(text.String(), "\n")
		}
		t.Data = all
	case "label":
		all := make([]string, len(results))
		for i, r := range results {
			all[i] = decode.Best(r.Scores).Label
		}
		t.Data = all
	case "score":
		all := make([]float64, len(results))
		for i, r := range results {
			all[i] = decode.Best(r.Scores).Score
		}
		t.Data = all
	case "scores": // in the order of the labels, row by row
		var all []float64
		for _, r := range results {
			for _, s := range r.Scores {
				all = append(all, s.Score)
			}
		}
		t.Shape[1] = len(all) / len(results)
		t.Data = all
	default:
		return errors.New("no output " + strconv.Quote(t.Name))
	}
	return nil
}
