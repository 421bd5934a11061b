package inferhandler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-infer/caddy-infer/inference"
	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func init() { caddy.RegisterModule(new(AdminAPI)) }

// AdminAPI changes the models of this process while they answer. It serves, on
// Caddy's admin endpoint and under its rules of access:
//
//	GET  /inference/models                  all models
//	GET  /inference/models/{name}           one model
//	POST /inference/models/{name}/load      other files behind the name: {"ref": "/models/raner-v2"};
//	                                        without a body the configured ones, read again
//	POST /inference/models/{name}/rollback  the model that answered before
//
// The name is that of the inference app, or the reference where a handler has
// the model by its reference.
//
// A change loads the new files aside with the options of the configured ones,
// runs the network once, and then lets the new model answer, all before the
// request is answered. Every request is answered by one model, none is lost,
// and the old model is freed with its last request; until then both are in
// memory. Where the new one can't be loaded, fails its trial or is for another
// task, the old one stays and the answer is 422. 409 says that another change
// of that model is under way, or that there is nothing to roll back to; 404
// that no handler has such a model.
//
// A change outlives reloads of the configuration, as long as that names the
// same files with the same options. It does not outlive the process: write the
// new directory into the configuration too.
type AdminAPI struct{ logger *zap.Logger }

// CaddyModule returns the Caddy module information.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.inference",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// Provision sets up the log.
func (a *AdminAPI) Provision(ctx caddy.Context) error {
	a.logger = ctx.Logger()
	return nil
}

const modelsPath = "/inference/models"

// Routes returns the routes below /inference/.
func (a *AdminAPI) Routes() []caddy.AdminRoute {
	handler := caddy.AdminHandlerFunc(a.serve)
	return []caddy.AdminRoute{
		{Pattern: modelsPath, Handler: handler},
		{Pattern: modelsPath + "/", Handler: handler},
	}
}

// modelStatus is a model as the API tells of it.
type modelStatus struct {
	Name          string           `json:"name"`
	Ref           string           `json:"ref"`
	ConfiguredRef string           `json:"configured_ref"`
	Digest        string           `json:"digest"`
	Since         time.Time        `json:"since"` // RFC 3339: it has answered since then
	Task          modeldir.Task    `json:"task"`
	Labels        []string         `json:"labels"`
	Engine        string           `json:"engine"`
	Precision     engine.Precision `json:"precision"`
	WeightBytes   int64            `json:"weight_bytes"`
	InFlight      int              `json:"in_flight"`
	Queued        int              `json:"queued"`
	Previous      *previousModel   `json:"previous"` // null: nothing to roll back to
}

type previousModel struct {
	Ref    string `json:"ref"`
	Digest string `json:"digest"`
}

func statusOf(s inference.Serving) modelStatus {
	m := modelStatus{
		Name: s.Name, Ref: s.Info.Ref, ConfiguredRef: s.ConfiguredRef, Digest: s.Info.Digest, Since: s.Since,
		Task: s.Info.Task, Labels: s.Info.Labels,
		Engine: s.Info.Engine.Engine, Precision: s.Info.Engine.Precision, WeightBytes: s.Info.Engine.WeightBytes,
		InFlight: s.Load.InFlight, Queued: s.Load.Queued,
	}
	if s.Before.Ref != "" {
		m.Previous = &previousModel{s.Before.Ref, s.Before.Digest}
	}
	return m
}

func (a *AdminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	name, verb, err := splitModelPath(r.URL.EscapedPath())
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	allowed := []string{http.MethodGet, http.MethodHead}
	if verb != "" {
		allowed = []string{http.MethodPost}
	}
	if !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return adminError(http.StatusMethodNotAllowed, fmt.Errorf("method %s is not allowed here: use %s", r.Method, allowed[0]))
	}
	if name == "" {
		if verb != "" {
			return adminError(http.StatusNotFound, fmt.Errorf("no model is named before /%s", verb))
		}
		all := []modelStatus{}
		for _, s := range inference.Servings() {
			all = append(all, statusOf(s))
		}
		return adminAnswer(w, all)
	}
	m, ok := inference.Find(name)
	if !ok {
		return adminError(http.StatusNotFound, unknownModel(name))
	}
	defer func() { _ = m.Release() }()
	switch verb {
	case "load":
		ref, err := readRef(r.Body)
		if err != nil {
			return adminError(http.StatusBadRequest, err)
		}
		return a.changed(w, name, func(ctx context.Context) (inference.Serving, error) { return m.Change(ctx, ref) })
	case "rollback":
		return a.changed(w, name, m.Rollback)
	}
	return adminAnswer(w, statusOf(m.Serving()))
}

// trialTimeout bounds the trial pass of a new model.
const trialTimeout = time.Minute

// changed makes a change and tells of it. Who gives the order and leaves does
// not stop it half way.
func (a *AdminAPI) changed(w http.ResponseWriter, name string, change func(context.Context) (inference.Serving, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), trialTimeout)
	defer cancel()
	s, err := change(ctx)
	switch {
	case errors.Is(err, inference.ErrChanging), errors.Is(err, inference.ErrNoRollback):
		return adminError(http.StatusConflict, err)
	case err != nil:
		a.logger.Error("model not changed", zap.String("model", name), zap.Error(err))
		return adminError(http.StatusUnprocessableEntity, err)
	}
	logReady(a.logger, name, s.Info)
	return adminAnswer(w, statusOf(s))
}

// splitModelPath takes an escaped path apart. Slashes of a name need not be
// escaped.
func splitModelPath(path string) (name, verb string, err error) {
	rest := strings.Trim(strings.TrimPrefix(path, modelsPath), "/")
	switch last := rest[strings.LastIndexByte(rest, '/')+1:]; last {
	case "load", "rollback":
		verb = last
		rest = strings.TrimSuffix(strings.TrimSuffix(rest, last), "/")
	}
	name, err = url.PathUnescape(rest)
	return name, verb, err
}

func unknownModel(name string) error {
	all := inference.Servings()
	if len(all) == 0 {
		return fmt.Errorf("no handler has a model %q, nor any other", name)
	}
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.Name
	}
	return fmt.Errorf("no handler has a model %q: there are %s", name, strings.Join(names, ", "))
}

// maxOrder is far more than a path takes.
const maxOrder = 16 << 10

// readRef reads {"ref": "…"}, or nothing.
func readRef(body io.Reader) (string, error) {
	const want = `want {"ref": "/path/of/model"}, or nothing for the configured files`
	data, err := io.ReadAll(io.LimitReader(body, maxOrder+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the order: %w", err)
	case len(data) > maxOrder:
		return "", fmt.Errorf("the order has more than %d bytes; %s", maxOrder, want)
	case len(strings.TrimSpace(string(data))) == 0:
		return "", nil
	}
	var order map[string]string
	if err := json.Unmarshal(data, &order); err != nil {
		return "", fmt.Errorf("reading the order: %w; %s", err, want)
	}
	ref, given := order["ref"]
	if len(order) != 1 || !given || ref == "" {
		return "", errors.New("reading the order: " + want)
	}
	return ref, nil
}

func adminAnswer(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return adminError(http.StatusInternalServerError, fmt.Errorf("encoding models: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write(append(data, '\n'))
	return err
}

func adminError(status int, err error) error {
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards.
var (
	_ caddy.Provisioner = (*AdminAPI)(nil)
	_ caddy.AdminRouter = (*AdminAPI)(nil)
)
