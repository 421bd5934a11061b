package gpuadmin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

// client asks a running Caddy's admin endpoint.
type client struct {
	address, config, adapter string
}

func (c *client) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.address, "address", "", "Address of the admin endpoint, if not the default")
	f.StringVarP(&c.config, "config", "c", "", "Configuration file that says the admin address, if --address does not")
	f.StringVarP(&c.adapter, "adapter", "a", "", "Name of the adapter for that file, if it is not JSON")
}

// maxAnswer bounds what is read of an answer: some thousand nodes.
const maxAnswer = 16 << 20

// ask sends a request and decodes its answer into v.
func (c *client) ask(method, path string, body []byte, v any) error {
	admin, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
	if err != nil {
		return fmt.Errorf("finding the admin address: %w", err)
	}
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	// Every request has a transport of its own, whose connection nobody else
	// would close.
	header := http.Header{"Connection": {"close"}}
	resp, err := caddycmd.AdminAPIRequest(admin, method, path, header, in)
	if err != nil {
		return explain(admin, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(v); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", admin, err)
	}
	return nil
}

// refusal is how AdminAPIRequest tells of an answer with an error's status.
var refusal = regexp.MustCompile(`(?s)HTTP (\d+): (.*)`)

// refusedError is an error that the API itself answered.
type refusedError struct{ status, message string }

func (e *refusedError) Error() string { return e.message }

// explain says what a failed request means to someone at a terminal.
func explain(admin string, err error) error {
	m := refusal.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("reaching the admin endpoint at %s: %w; is Caddy running? If its admin endpoint is elsewhere, name it by --address", admin, err)
	}
	var answer struct {
		Error string `json:"error"`
	}
	switch {
	case json.Unmarshal([]byte(m[2]), &answer) == nil && answer.Error != "":
		return &refusedError{m[1], answer.Error}
	case m[1] == "404":
		return fmt.Errorf("the Caddy at %s knows no %s: it was built without caddy-infer, or runs an older version", admin, nodesPath)
	default:
		return err
	}
}

func (c *client) nodes() ([]gpupolicy.Status, error) {
	var all []gpupolicy.Status
	err := c.ask(http.MethodGet, nodesPath, nil, &all)
	return all, err
}

// node sends a request about one node; verb is empty for its status.
func (c *client) node(method, addr, verb string, body []byte) (gpupolicy.Status, error) {
	path := nodesPath + "/" + url.PathEscape(addr)
	if verb != "" {
		path += "/" + verb
	}
	var s gpupolicy.Status
	err := c.ask(method, path, body, &s)
	return s, err
}
