package gpustatus

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func init() {
	caddy.RegisterModule(new(Push))
	httpcaddyfile.RegisterHandlerDirective("gpu_push", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		p := new(Push)
		return p, p.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("gpu_push", httpcaddyfile.Before, "invoke")
}

// Push takes the reports of nodes that no gateway can reach, for telemetry of
// kind `push`. A node POSTs the JSON of `gpu_status` to a path that ends in its
// name, the `host:port` by which it is an upstream, or with `?node=host:port`:
//
//	POST /gpu/push/10.0.0.1:8081
//
// The answer is 204. Errors are `{"error": "…"}`: 400 (no node, no such JSON),
// 404 (no telemetry of this gateway waits for that node), 405, 413, 415.
//
// Whoever can post here decides where requests go. Protect the route, by
// `basic_auth`, client certificates or a `remote_ip` matcher.
type Push struct {
	// MaxBody is the largest report in bytes. Default: 1 MiB.
	MaxBody int64 `json:"max_body,omitempty"`
}

const defaultMaxReport = 1 << 20

// CaddyModule returns the Caddy module information.
func (*Push) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.gpu_push",
		New: func() caddy.Module { return new(Push) },
	}
}

// Provision sets the defaults.
func (p *Push) Provision(caddy.Context) error {
	if p.MaxBody == 0 {
		p.MaxBody = defaultMaxReport
	}
	return nil
}

// Validate rejects a limit that no report could keep.
func (p *Push) Validate() error {
	if p.MaxBody < 0 || p.MaxBody > 4<<20 {
		return fmt.Errorf("max_body %d: give 1 byte to 4 MiB", p.MaxBody)
	}
	return nil
}

// ServeHTTP takes one report; the next handler is never called.
func (p *Push) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return writeError(w, http.StatusMethodNotAllowed, "reports are sent by POST")
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return writeError(w, http.StatusUnsupportedMediaType, "a report is JSON: send Content-Type: application/json")
	}
	node := nodeName(r.URL)
	if node == "" {
		return writeError(w, http.StatusBadRequest, "no node: end the path with its host:port, or give ?node=host:port")
	}
	at := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, p.MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return writeError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a report has at most %d bytes", p.MaxBody))
	}
	if err != nil {
		return writeError(w, http.StatusBadRequest, "the report ended early")
	}
	switch err := gpuprobe.Push(node, body, at); {
	case errors.Is(err, gpuprobe.ErrNotAwaited):
		return writeError(w, http.StatusNotFound, fmt.Sprintf("%s: %q", err, node))
	case err != nil:
		return writeError(w, http.StatusBadRequest, err.Error())
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// maxNodeName is more than host and port can have.
const maxNodeName = 300

// nodeName is the query's node, or the last segment of the path.
func nodeName(u *url.URL) string {
	name := u.Query().Get("node")
	if name == "" {
		path := u.EscapedPath()
		var err error
		if name, err = url.PathUnescape(path[strings.LastIndexByte(path, '/')+1:]); err != nil {
			return ""
		}
	}
	if len(name) > maxNodeName {
		return ""
	}
	return name
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens:
//
//	gpu_push [<matcher>] {
//		max_body <size>
//	}
func (p *Push) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // directive name
	if d.NextArg() {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		if d.Val() != "max_body" {
			return d.Errf("unrecognized option '%s': gpu_push knows max_body", d.Val())
		}
		size, err := sizeArg(d)
		if err != nil {
			return err
		}
		p.MaxBody = size
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Push)(nil)
	_ caddy.Validator             = (*Push)(nil)
	_ caddyhttp.MiddlewareHandler = (*Push)(nil)
	_ caddyfile.Unmarshaler       = (*Push)(nil)
)
