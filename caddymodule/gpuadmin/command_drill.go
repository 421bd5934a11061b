package gpuadmin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpuadmin/drill"
	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

func drillCommand() *cobra.Command {
	var c client
	var data string
	var headers []string
	var insecure, dryRun, asJSON bool
	l := drill.Load{Rate: 20, Timeout: 10 * time.Second}
	o := drill.Options{Hold: 10 * time.Second, Wait: time.Minute, MaxLost: 20}
	cmd := &cobra.Command{
		Use:   "drill --url <url> [--data <body>] [--rate <n>] [--hold <duration>] [--node <node>…] [--json] [--dry-run]",
		Short: "Fails the nodes over one by one under light load, and tells what is lost",
		Long: `
Sends a light, constant load to the gateway and takes the nodes that it reaches
out of service one after the other: drains a node, waits until it gets nothing
and has nothing left, holds it out, puts it back and waits until it serves again
beyond slow start. Then tells how many requests were sent and lost, how slow they were, and how long
the switch and the return took. The exit code is 0 if nothing was lost.

	$ caddy gpu drill --url http://localhost:8080/predict --data '{"text":"…"}'
	$ caddy gpu drill --url https://api.example.com/predict --data @request.json --header 'Authorization: Bearer …'
	$ caddy gpu drill --url http://localhost:8080/predict --data @request.json --dry-run

The real users' requests take the same ways. A node is put back whatever happens:
also on Ctrl-C, and when more than --max-lost requests are lost. A drill does
not start if a node is drained already, if only one is in service, or if the
URL does not answer.

Latency counts from when a request was due. Which node got it is read from the
gateway's own counts. Requests, with --data or without, are shown nowhere.
`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Hold < time.Second || o.Hold > time.Hour {
				return fmt.Errorf("--hold %v: want 1s to 1h", o.Hold)
			}
			if o.Wait < time.Second || o.Wait > time.Hour {
				return fmt.Errorf("--wait %v: want 1s to 1h", o.Wait)
			}
			if o.MaxLost < 0 {
				return fmt.Errorf("--max-lost %d: want 0 or more", o.MaxLost)
			}
			if err := l.Check(); err != nil {
				return err
			}
			var err error
			if l.Header, err = parseHeaders(headers); err != nil {
				return err
			}
			if cmd.Flags().Changed("data") {
				if l.Body, err = readData(data, cmd.InOrStdin()); err != nil {
					return err
				}
				if l.Header.Get("Content-Type") == "" {
					l.Header.Set("Content-Type", "application/json")
				}
			}
			transport := newDrillTransport(insecure)
			defer transport.CloseIdleConnections()
			l.Transport = transport
			// Once and for all: the file may change before a node is put back.
			admin, err := caddycmd.DetermineAdminAPIAddress(c.address, nil, c.config, c.adapter)
			if err != nil {
				return fmt.Errorf("finding the admin address: %w", err)
			}
			o.Log = func(format string, args ...any) {
				fmt.Fprintln(cmd.ErrOrStderr(), time.Now().Format(time.TimeOnly), visible(fmt.Sprintf(format, args...)))
			}
			ctx, cancel := untilInterrupted(cmd.Context())
			defer cancel()
			gw := drillGateway{&client{address: admin}}
			if dryRun {
				return planDrill(ctx, cmd.OutOrStdout(), gw, &l, o)
			}
			return runDrill(ctx, cmd.OutOrStdout(), asJSON, admin, gw, &l, o)
		},
	}
	c.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&l.URL, "url", "", "What to ask for, at the gateway")
	f.StringVar(&data, "data", "", "Body of the requests, which are POSTs then; @file reads it from a file, @- from the standard input")
	f.StringArrayVarP(&headers, "header", "H", nil, "Header of the requests, 'Name: value'; repeatable")
	f.StringVarP(&l.Method, "request", "X", "", "Method of the requests, if not POST with --data and GET without")
	f.BoolVarP(&insecure, "insecure", "k", false, "Accept any certificate")
	f.Float64Var(&l.Rate, "rate", l.Rate, fmt.Sprintf("Requests per second, up to %d", drill.MaxRate))
	f.DurationVar(&l.Timeout, "timeout", l.Timeout, "A request without a whole answer by then is lost")
	f.DurationVar(&o.Hold, "hold", o.Hold, "How long the baseline takes, and each node stays out")
	f.DurationVar(&o.Wait, "wait", o.Wait, "How long to wait, at most, for a node's last request, and for it to serve again")
	f.StringArrayVar(&o.Nodes, "node", nil, "Take out this node only; repeatable")
	f.IntVar(&o.MaxLost, "max-lost", o.MaxLost, "Put the node back and end when more requests than these are lost")
	f.BoolVar(&o.Force, "force", false, "Go on with a node drained already, with one node in service, or with losses in the baseline")
	f.BoolVar(&dryRun, "dry-run", false, "Send one request, drain nothing, and say what would be done")
	f.BoolVar(&asJSON, "json", false, "Print one JSON object per node, and a summary")
	return cmd
}

// runDrill prints what happened also if the drill was ended early.
func runDrill(ctx context.Context, out io.Writer, asJSON bool, admin string, gw drill.Gateway, l *drill.Load, o drill.Options) error {
	report, err := drill.Run(ctx, gw, l, o)
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted: %w", err)
	}
	if len(report.Nodes) > 0 || report.Baseline.Sent() > 0 || asJSON {
		if printed := printDrill(out, asJSON, report, err); printed != nil {
			err = errors.Join(err, printed)
		}
	}
	if still, ok := errors.AsType[*drill.StillDrainedError](err); ok {
		return fmt.Errorf("%w\nput it back as soon as the gateway answers:\n\n\tcaddy gpu resume %s --address %s", err, still.Address, admin)
	}
	if err == nil && report.Lost().Sum() > 0 {
		return fmt.Errorf("%d of %d requests were lost", report.Lost().Sum(), report.Sent())
	}
	return err
}

func planDrill(ctx context.Context, out io.Writer, gw drill.Gateway, l *drill.Load, o drill.Options) error {
	nodes, err := drill.Plan(ctx, gw, l, o)
	if err != nil {
		return err
	}
	perNode := o.Hold + 2*o.Wait
	longest := o.Hold + time.Duration(len(nodes))*perNode
	fmt.Fprintf(out, "Would send %g requests per second, %.0f at most in all, and take out in turn, for %v each,\n",
		l.Rate, l.Rate*longest.Seconds(), o.Hold)
	if len(o.Nodes) == 0 {
		fmt.Fprintln(out, "those of these nodes that are in one pool with a node that the load reaches:")
	} else {
		fmt.Fprintln(out, "these nodes:")
	}
	for _, n := range nodes {
		fmt.Fprintf(out, "  %s (%s, tier %d)\n", visible(n.Address), n.State, n.Tier)
	}
	_, err = fmt.Fprintln(out, "Nothing was drained.")
	return err
}

// maxData is how much of a body is read.
const maxData = 8 << 20

func readData(arg string, in io.Reader) ([]byte, error) {
	name, isFile := strings.CutPrefix(arg, "@")
	if !isFile {
		return []byte(arg), nil
	}
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the operator names it
		if err != nil {
			return nil, fmt.Errorf("--data: %w", err)
		}
		defer f.Close()
		in = f
	}
	body, err := io.ReadAll(io.LimitReader(in, maxData+1))
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	if len(body) > maxData {
		return nil, fmt.Errorf("--data: more than %d bytes", maxData)
	}
	return body, nil
}

func parseHeaders(lines []string) (http.Header, error) {
	h := make(http.Header)
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(line, "\r\n") {
			return nil, fmt.Errorf("--header: number %d is no 'Name: value'", i+1) // it may hold a secret
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

func newDrillTransport(insecure bool) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:   true,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: insecure}, //nolint:gosec // by --insecure only
	}
}

// untilInterrupted ends with what ends a process, a lost terminal included. A
// broken pipe must not: `drill | tee log` would lose its nodes to Ctrl-C, which
// ends tee first.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil { // cobra leaves it nil where Execute was given none
		ctx = context.Background()
	}
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	ctx, cancel := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	return ctx, func() {
		cancel()
		signal.Stop(broken)
	}
}

// drillGateway is the admin API as a drill wants it.
type drillGateway struct{ *client }

func (g drillGateway) Nodes() ([]drill.Node, error) {
	all, err := g.nodes()
	nodes := make([]drill.Node, len(all))
	for i, s := range all {
		nodes[i] = drillNode(s)
	}
	return nodes, err
}

func (g drillGateway) Drain(address string) (drill.Node, error) {
	s, err := g.node(http.MethodPost, address, "drain", nil)
	return drillNode(s), err
}

func (g drillGateway) Resume(address string) (drill.Node, error) {
	s, err := g.node(http.MethodPost, address, "resume", nil)
	if refused, ok := errors.AsType[*refusedError](err); ok && refused.status == "404" {
		err = fmt.Errorf("%w: %w", drill.ErrUnknownNode, err)
	}
	return drillNode(s), err
}

func drillNode(s gpupolicy.Status) drill.Node {
	return drill.Node{Address: s.Address, State: s.State, InUse: s.InUse, InFlight: s.InFlight, Picks: total(s), Tier: s.Tier, Pool: s.Pool}
}
