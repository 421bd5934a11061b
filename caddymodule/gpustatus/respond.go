package gpustatus

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/munnerz/goautoneg"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpustatus/nodeagent"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

// offers are what the page comes in; whoever has no wish gets the first.
var offers = []string{"application/json", "text/plain", "application/openmetrics-text"}

// maxAccept is longer than any client's honest header.
const maxAccept = 4 << 10

// wantsMetrics chooses by the header Accept.
func wantsMetrics(h http.Header) bool {
	accept := strings.Join(h.Values("Accept"), ",")
	if accept == "" || len(accept) > maxAccept {
		return false
	}
	offer := goautoneg.Negotiate(accept, offers)
	return offer != "" && offer != offers[0]
}

func (s *Status) serve(w http.ResponseWriter, r *http.Request) error {
	state := s.agent.Latest()
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Set("Cache-Control", "no-store")
	gpuprobe.SetORCA(r.Header, h, &state.Sample)
	if wantsMetrics(r.Header) {
		s.metrics.ServeHTTP(w, r)
		return nil
	}
	status := http.StatusOK
	if !state.Healthy() {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, state.Report())
}

func writeError(w http.ResponseWriter, status int, message string) error {
	return writeJSON(w, status, map[string]string{"error": message})
}

// writeJSON leaves it to the server to drop the body of an answer to HEAD.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	body = append(body, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// orcaWriter adds the node's load to a response, as late as may be: the
// handler behind it may have a report of its own.
type orcaWriter struct {
	*caddyhttp.ResponseWriterWrapper
	request http.Header
	agent   *nodeagent.Agent
	done    bool
}

func newORCAWriter(w http.ResponseWriter, request http.Header, a *nodeagent.Agent) *orcaWriter {
	return &orcaWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, request: request, agent: a}
}

func (w *orcaWriter) add() {
	if !w.done {
		w.done = true
		gpuprobe.SetORCA(w.request, w.Header(), &w.agent.Latest().Sample)
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *orcaWriter) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.add()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *orcaWriter) Write(p []byte) (int, error) {
	w.add()
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (w *orcaWriter) ReadFrom(r io.Reader) (int64, error) {
	w.add()
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is what http.ResponseController calls: the first flush sends the
// headers.
func (w *orcaWriter) FlushError() error {
	w.add()
	return http.NewResponseController(w.ResponseWriter).Flush()
}
