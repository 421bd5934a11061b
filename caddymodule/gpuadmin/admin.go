// Package gpuadmin is how operators look at the nodes of `lb_policy gpu` and
// give orders: /gpu/ on Caddy's admin endpoint, and the `caddy gpu` commands
// that talk to it. What an order means is in packages gpupolicy and balance.
package gpuadmin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

func init() {
	caddy.RegisterModule(API{})
}

// API serves, on Caddy's admin endpoint and under its rules of access:
//
//	GET    /gpu/nodes                all nodes
//	GET    /gpu/nodes/{addr}         one node
//	POST   /gpu/nodes/{addr}/drain   it ends what it has and gets nothing new
//	POST   /gpu/nodes/{addr}/resume  it gets requests again, few at first
//	PUT    /gpu/nodes/{addr}/weight  its weight: 2, {"weight": 2}, or null for the configured one
//	DELETE /gpu/nodes/{addr}/weight  back to the configured weight
//
// Orders take effect before they are answered, in every handler that uses the
// node, and outlive reloads. Answers are JSON, gpupolicy.Status or a list of
// it, errors {"error": "…"}.
//
// An address is the upstream's dial string. Its slashes are escaped as %2F:
// unix%2F%2Frun%2Fmodel.sock.
//
// Caddy makes an API per configuration, before its apps, and never cleans it
// up; the nodes are in gpupolicy's pool, so it has no state of its own.
type API struct{}

// CaddyModule returns the Caddy module information.
func (API) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.gpu",
		New: func() caddy.Module { return new(API) },
	}
}

const nodesPath = "/gpu/nodes"

// Routes returns the routes below /gpu/.
func (a API) Routes() []caddy.AdminRoute {
	handler := caddy.AdminHandlerFunc(a.serve)
	return []caddy.AdminRoute{
		{Pattern: nodesPath, Handler: handler},
		{Pattern: nodesPath + "/", Handler: handler},
	}
}

func (a API) serve(w http.ResponseWriter, r *http.Request) error {
	addr, verb, err := split(r.URL.EscapedPath())
	if err != nil {
		return fail(http.StatusBadRequest, err)
	}
	switch {
	case addr == "" && verb == "":
		if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		return answer(w, gpupolicy.Nodes(), nil)
	case addr == "":
		return fail(http.StatusNotFound, fmt.Errorf("no node is named before /%s", verb))
	case verb == "":
		if err := allow(w, r, http.MethodGet, http.MethodHead); err != nil {
			return err
		}
		node, err := gpupolicy.Node(addr)
		return answer(w, node, err)
	case verb == "weight":
		if err := allow(w, r, http.MethodPut, http.MethodDelete); err != nil {
			return err
		}
		return setWeight(w, r, addr)
	}
	if err := allow(w, r, http.MethodPost); err != nil {
		return err
	}
	order := gpupolicy.Drain
	if verb == "resume" {
		order = gpupolicy.Resume
	}
	node, err := order(addr)
	return answer(w, node, err)
}

// split takes an escaped path apart. An address whose slashes are not escaped
// is understood as well, unless it ends in a verb.
func split(path string) (addr, verb string, err error) {
	rest := strings.Trim(strings.TrimPrefix(path, nodesPath), "/")
	last := rest[strings.LastIndexByte(rest, '/')+1:]
	switch last {
	case "drain", "resume", "weight":
		verb = last
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, last), "/")
	}
	addr, err = url.PathUnescape(rest)
	return addr, verb, err
}

func setWeight(w http.ResponseWriter, r *http.Request, addr string) error {
	weight := 0.0 // the configured one
	if r.Method == http.MethodPut {
		var err error
		if weight, err = readWeight(r.Body); err != nil {
			return fail(http.StatusBadRequest, err)
		}
	}
	node, err := gpupolicy.SetWeight(addr, weight)
	return answer(w, node, err)
}

// maxBody is far more than a weight takes.
const maxBody = 1024

// readWeight reads a number, {"weight": number}, or null in either place for
// the configured weight, which is returned as 0.
func readWeight(body io.Reader) (float64, error) {
	const want = `want a number, {"weight": a number}, or null for the configured weight`
	data, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return 0, fmt.Errorf("reading weight: %w", err)
	}
	if len(data) > maxBody {
		return 0, fmt.Errorf("reading weight: more than %d bytes; %s", maxBody, want)
	}
	var weight *float64
	if err := json.Unmarshal(data, &weight); err != nil {
		var object map[string]*float64
		if json.Unmarshal(data, &object) != nil {
			return 0, fmt.Errorf("reading weight: %w; %s", err, want)
		}
		var ok bool
		if weight, ok = object["weight"]; !ok || len(object) != 1 {
			return 0, fmt.Errorf("reading weight: %s", want)
		}
	}
	switch {
	case weight == nil:
		return 0, nil
	case *weight == 0:
		return 0, errors.New("a node of weight 0 would get nothing: drain it instead")
	}
	return *weight, nil
}

func allow(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	allowed := strings.Join(methods, ", ")
	w.Header().Set("Allow", allowed)
	return fail(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here: use %s", r.Method, allowed))
}

func answer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		if _, unknown := errors.AsType[*gpupolicy.UnknownNodeError](err); unknown {
			return fail(http.StatusNotFound, err)
		}
		return fail(http.StatusBadRequest, err)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fail(http.StatusInternalServerError, fmt.Errorf("encoding nodes: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(append(data, '\n'))
	return err
}

func fail(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards
var (
	_ caddy.Module      = API{}
	_ caddy.AdminRouter = API{}
)
