// Package gpustatus is the node agent: it says what the machine it runs on is
// doing, for gateways and load balancers of many kinds (http.handlers.gpu_status),
// and takes such reports at a gateway (http.handlers.gpu_push).
package gpustatus

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpustatus/nodeagent"
	"github.com/caddy-infer/caddy-infer/caddymodule/inferhandler"
	"github.com/caddy-infer/caddy-infer/gpuprobe"
)

func init() { caddy.RegisterModule(new(Status)) }

// Status says how this node is: its GPUs, its host, its model server. It runs
// beside a model server that knows nothing of it, and everything is read in the
// background: no request waits for a GPU, a server or a file.
//
// GET answers JSON, 200 when the node is healthy and 503 with the same JSON
// when not. A client that prefers `text/plain` or
// `application/openmetrics-text` gets Prometheus metrics, always with 200. The
// metrics are named `gpu_node_…`, those of a gateway `caddy_gpu_…`. Other
// methods than GET and HEAD get 405 and `{"error": "…"}`.
//
// The keys of the JSON; what is not known is left out:
//
// | Key | Meaning |
// |---|---|
// | `timestamp` | when the oldest value was measured |
// | `gpu_usage_percent` | used memory of the fullest GPU |
// | `api_healthy`, `webui_healthy` | whether they answer |
// | `overall_healthy` | both of them, memory within the limit, not draining |
// | `gpu_utilization_percent` | the busiest GPU |
// | `cpu_percent`, `memory_percent` | of the host |
// | `in_flight`, `queue`, `running` | requests of the model servers |
// | `kv_cache_percent` | of language models |
// | `model`, `model_digest` | what is served |
// | `devices` | each GPU: `uuid`, `name`, `index`, `utilization_percent`, `memory_used_bytes`, `memory_total_bytes`, `temperature_c`, `power_w`, `throttle_reasons`, `xid`, `ecc_uncorrected` |
// | `agent` | what the agent port says for the API |
// | `draining` | true while the node drains |
// | `notes` | what could not be read, and why the node is not healthy |
//
// A request with the header `endpoint-load-metrics-format: TEXT`, `JSON` or
// `BIN` gets the node's load in `endpoint-load-metrics` (or, for BIN,
// `endpoint-load-metrics-bin`), as Open Request Cost Aggregation defines it.
type Status struct {
	// Telemetry are the sources of GPU and server telemetry; what they say is
	// merged. Default: this host's GPUs, by NVML or else by nvidia-smi.
	Telemetry []gpuprobe.Config `json:"telemetry,omitempty"`

	// NoTelemetry reads no GPU, for nodes that have none.
	NoTelemetry bool `json:"no_telemetry,omitempty"`

	// Interval is the pause between readings. Default: 1s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// API is the URL that says whether the node's API is healthy: 2xx, and no
	// JSON that says otherwise (`"overall_healthy": false`, `"healthy": false`,
	// `"model_loaded": false`, or a `status` such as `unhealthy`). It is asked
	// in the background; two failures in a row make it unhealthy, one good
	// answer healthy.
	API string `json:"api,omitempty"`

	// WebUI is the same for the node's WebUI.
	WebUI string `json:"webui,omitempty"`

	// Timeout is how long API and WebUI may take to answer. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// MemoryLimit is the used share of GPU memory, 0 to 1, from which the node
	// is not healthy overall; 0 is no limit. Default: 0.85. Servers that take
	// all memory at once, as vLLM does, need 0.
	MemoryLimit *float64 `json:"memory_limit,omitempty"`

	// ShedAt is the GPU utilisation, 0 to 1, above which the node asks for
	// less than its full weight. Default: 0.75.
	ShedAt float64 `json:"shed_at,omitempty"`

	// Model names a model of the `inference` app, a built-in model or a model
	// directory whose requests in this process are counted. Default: all
	// models of this process. With ModelPath it is only the name to show.
	Model string `json:"model,omitempty"`

	// ModelPath is the directory of a model that another process serves. Its
	// digest lets a gateway see that two nodes serve different files.
	ModelPath string `json:"model_path,omitempty"`

	// DrainFile drains the node while a file of that name exists.
	DrainFile string `json:"drain_file,omitempty"`

	// AgentChecks are ports that speak HAProxy's agent-check language.
	AgentChecks []AgentCheck `json:"agent_checks,omitempty"`

	// Push are URLs to which the JSON is posted each interval: the `gpu_push`
	// handler of gateways that cannot reach this node.
	Push []string `json:"push,omitempty"`

	// ORCA makes this handler answer nothing itself. It passes requests on and
	// adds the load header to the responses of the handlers behind it, for
	// clients that ask, unless a response has one of its own.
	ORCA bool `json:"orca,omitempty"`

	agent   *nodeagent.Agent
	key     string // of the agent in agents
	metrics http.Handler
}

// AgentCheck is a TCP port in HAProxy's agent-check language: one line to each
// connection, then it is closed.
type AgentCheck struct {
	// Listen is the address, such as `:9777`.
	Listen string `json:"listen,omitempty"`

	// For is the service that the port speaks for: `api` (default), `webui`,
	// or `overall` for the whole node.
	For nodeagent.For `json:"for,omitempty"`
}

// The defaults, and the shortest interval that costs nothing.
const (
	defaultInterval    = time.Second
	defaultTimeout     = 2 * time.Second
	defaultMemoryLimit = 0.85
	defaultShedAt      = 0.75
	minInterval        = 100 * time.Millisecond
	maxInterval        = time.Hour
)

// agents are the running agents by their options. Two configurations, as
// during a reload, share one, so that a reload forgets nothing.
var agents = caddy.NewUsagePool()

// CaddyModule returns the Caddy module information.
func (*Status) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.gpu_status",
		New: func() caddy.Module { return new(Status) },
	}
}

// Provision begins to watch the node.
func (s *Status) Provision(ctx caddy.Context) error {
	s.setDefaults()
	if err := s.check(); err != nil {
		return err
	}
	o := s.options()
	if s.Model != "" && s.ModelPath == "" {
		app, err := ctx.App("inference")
		if err != nil {
			return err
		}
		if o.Digest, err = app.(*inferhandler.App).Digest(s.Model); err != nil {
			return err
		}
	}
	key, err := json.Marshal(o)
	if err != nil {
		return err
	}
	agent, _, err := agents.LoadOrNew(string(key), func() (caddy.Destructor, error) {
		a, err := nodeagent.New(o, warnf)
		if err != nil {
			return nil, err
		}
		return pooled{a}, nil
	})
	if err != nil {
		return err
	}
	s.key, s.agent = string(key), agent.(pooled).Agent
	// A registry of its own: the page is about the node and nothing else.
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(s.agent); err != nil {
		return err
	}
	s.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, DisableCompression: true})
	return s.openPorts(ctx)
}

// pooled makes an agent end with its last user.
type pooled struct{ *nodeagent.Agent }

func (p pooled) Destruct() error { return p.Close() }

// warnf logs by the running configuration's log: the agent may outlive the one
// that it was made by.
func warnf(format string, args ...any) {
	caddy.Log().Named("http.handlers.gpu_status").Warn(fmt.Sprintf(format, args...))
}

func (s *Status) openPorts(ctx caddy.Context) error {
	if len(s.AgentChecks) == 0 {
		return nil
	}
	app, err := ctx.App("gpu_agent_ports")
	if err != nil {
		return err
	}
	for _, c := range s.AgentChecks {
		if err := app.(*AgentPorts).add(c.Listen, func() string { return s.agent.Latest().AgentLine(c.For) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Status) setDefaults() {
	if s.Interval == 0 {
		s.Interval = caddy.Duration(defaultInterval)
	}
	if s.Timeout == 0 {
		s.Timeout = caddy.Duration(defaultTimeout)
	}
	if s.MemoryLimit == nil {
		limit := defaultMemoryLimit
		s.MemoryLimit = &limit
	}
	if s.ShedAt == 0 {
		s.ShedAt = defaultShedAt
	}
	for i := range s.AgentChecks {
		if s.AgentChecks[i].For == "" {
			s.AgentChecks[i].For = nodeagent.ForAPI
		}
	}
}

// check rejects what could not work.
func (s *Status) check() error {
	if d := time.Duration(s.Interval); d < minInterval || d > maxInterval {
		return fmt.Errorf("interval %s: give %s to %s", d, minInterval, maxInterval)
	}
	if d := time.Duration(s.Timeout); d <= 0 || d > time.Minute {
		return fmt.Errorf("timeout %s: give a duration up to 1m", d)
	}
	if !(*s.MemoryLimit >= 0 && *s.MemoryLimit <= 1) {
		return fmt.Errorf("memory_limit %g: give a share of the memory up to 1, or 0 for no limit", *s.MemoryLimit)
	}
	if !(s.ShedAt > 0 && s.ShedAt <= 1) {
		return fmt.Errorf("shed_at %g: give a utilisation above 0, up to 1", s.ShedAt)
	}
	if s.NoTelemetry && len(s.Telemetry) > 0 {
		return errors.New("telemetry is off and has sources: give one or the other")
	}
	for option, address := range map[string]string{"api": s.API, "webui": s.WebUI} {
		if err := checkURL(address); address != "" && err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	for _, address := range s.Push {
		if err := checkURL(address); err != nil {
			return fmt.Errorf("push: %w", err)
		}
	}
	for _, c := range s.AgentChecks {
		if err := c.check(); err != nil {
			return fmt.Errorf("agent_check %s: %w", c.Listen, err)
		}
	}
	return nil
}

// checkURL does not repeat the address, which may have a password in it.
func checkURL(address string) error {
	u, err := url.Parse(replace(address))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("want a URL such as http://127.0.0.1:8080/health")
	}
	return nil
}

func (c AgentCheck) check() error {
	address, err := listenAddress(c.Listen)
	if err != nil {
		return err
	}
	if address.PortRangeSize() != 1 {
		return errors.New("want one port, such as :9777")
	}
	switch c.For {
	case nodeagent.ForAPI, nodeagent.ForWebUI, nodeagent.ForOverall:
		return nil
	}
	return fmt.Errorf("unknown service %q: use api, webui or overall", c.For)
}

// options puts the environment into what may name it, such as a password in a
// URL.
func (s *Status) options() nodeagent.Options {
	o := nodeagent.Options{
		NoGPU:    s.NoTelemetry,
		Interval: time.Duration(s.Interval), Timeout: time.Duration(s.Timeout),
		API: replace(s.API), WebUI: replace(s.WebUI),
		MemoryLimit: *s.MemoryLimit, ShedAt: s.ShedAt,
		Model: s.Model, ModelPath: replace(s.ModelPath), DrainFile: replace(s.DrainFile),
	}
	for _, c := range s.Telemetry {
		c.Address = replace(c.Address)
		o.Telemetry = append(o.Telemetry, c)
	}
	for _, address := range s.Push {
		o.Push = append(o.Push, replace(address))
	}
	return o
}

func replace(text string) string { return caddy.NewReplacer().ReplaceKnown(text, "") }

// Cleanup ends the watching, unless another configuration goes on with it.
func (s *Status) Cleanup() error {
	if s.agent == nil {
		return nil
	}
	_, err := agents.Delete(s.key)
	return err
}

// ServeHTTP answers for the node or, with ORCA, lets the next handler answer.
func (s *Status) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if s.ORCA {
		if !gpuprobe.WantsORCA(r.Header) {
			return next.ServeHTTP(w, r)
		}
		return next.ServeHTTP(newORCAWriter(w, r.Header, s.agent), r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return writeError(w, http.StatusMethodNotAllowed, "this page is only read: send GET")
	}
	return s.serve(w, r)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Status)(nil)
	_ caddy.CleanerUpper          = (*Status)(nil)
	_ caddyhttp.MiddlewareHandler = (*Status)(nil)
)
