package gpuadmin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/caddy-infer/caddy-infer/caddymodule/balance"
	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

// pollEvery is how often a command that waits looks again.
const pollEvery = 200 * time.Millisecond

func drainCommand() *cobra.Command {
	var c client
	var asJSON bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "drain <node> [--wait <duration>] [--json] [--address <admin>]",
		Short: "Takes a node out of service: it ends what it has and gets nothing new",
		Long: `
Takes a node out of service at once, in every handler with lb_policy gpu: it
ends what it has and gets nothing new, not even when every other node is lost.
It stays so over reloads until 'caddy gpu resume'.

With --wait, returns when the node's last request has ended, or fails after
that time:

	$ caddy gpu drain 10.0.0.1:8081 --wait 1m && ssh 10.0.0.1 systemctl restart model
`,
		Args: nodeArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.node(http.MethodPost, args[0], "drain", nil)
			if err != nil {
				return err
			}
			if wait > 0 {
				if s, err = c.drained(cmd, s, wait); err != nil {
					return err
				}
			}
			return tell(cmd.OutOrStdout(), asJSON, s, describe(s))
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the node as JSON")
	cmd.Flags().DurationVar(&wait, "wait", 0, "Wait for the node's last request to end, so long at most")
	return cmd
}

// drained waits for a drain to end.
func (c *client) drained(cmd *cobra.Command, s gpupolicy.Status, wait time.Duration) (gpupolicy.Status, error) {
	ctx, cancel := interruptible(cmd)
	defer cancel()
	end := time.After(wait)
	for {
		switch s.State {
		case balance.Drained.String():
			return s, nil
		case balance.Draining.String():
		default:
			return s, fmt.Errorf("%s was resumed meanwhile: it is %s", s.Address, s.State)
		}
		select {
		case <-time.After(pollEvery):
		case <-end:
			return s, fmt.Errorf("%s still has %s after %v; it stays in draining", s.Address, requests(s.InFlight), wait)
		case <-ctx.Done():
			return s, fmt.Errorf("interrupted; %s stays in draining, with %s left", s.Address, requests(s.InFlight))
		}
		var err error
		if s, err = c.node(http.MethodGet, s.Address, "", nil); err != nil {
			return s, err
		}
	}
}

func resumeCommand() *cobra.Command {
	var c client
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "resume <node> [--json] [--address <admin>]",
		Short: "Puts a drained node back to service",
		Long: `
Puts a drained node back to service. Its share grows as after a recovery, over
the slow_start of the policy.
`,
		Args: nodeArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.node(http.MethodPost, args[0], "resume", nil)
			if err != nil {
				return err
			}
			return tell(cmd.OutOrStdout(), asJSON, s, describe(s))
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the node as JSON")
	return cmd
}

// configured is what `caddy gpu weight` takes instead of a number.
const configured = "configured"

func weightCommand() *cobra.Command {
	var c client
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "weight <node> <weight>|" + configured + " [--json] [--address <admin>]",
		Short: "Overrides a node's weight",
		Long: `
Overrides the weight that the configuration gives a node, at once and over
reloads. 'configured' returns to that weight.

	$ caddy gpu weight 10.0.0.1:8081 0.5
	$ caddy gpu weight 10.0.0.1:8081 configured
`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("name a node and its weight: caddy gpu weight 10.0.0.1:8081 2")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			method, body := http.MethodDelete, []byte(nil)
			if args[1] != configured {
				w, err := strconv.ParseFloat(args[1], 64)
				if err != nil {
					return fmt.Errorf("weight %q: want a number, or the word %s", args[1], configured)
				}
				method = http.MethodPut
				if body, err = json.Marshal(w); err != nil { // infinite, or none
					return fmt.Errorf("weight %q: want a number, or the word %s", args[1], configured)
				}
			}
			s, err := c.node(method, args[0], "weight", body)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s has weight %s, as configured", s.Address, number(s.Weight))
			if s.OrderedWeight != nil {
				text = fmt.Sprintf("%s has weight %s instead of %s", s.Address, number(s.Weight), number(s.ConfiguredWeight))
			}
			return tell(cmd.OutOrStdout(), asJSON, s, text)
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print the node as JSON")
	return cmd
}

// nodeArg wants one argument and says which.
func nodeArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("name one node: caddy gpu %s 10.0.0.1:8081 ('caddy gpu nodes' lists them)", cmd.Name())
	}
	return nil
}

func tell(out io.Writer, asJSON bool, s gpupolicy.Status, text string) error {
	if asJSON {
		return json.NewEncoder(out).Encode(s)
	}
	_, err := fmt.Fprintln(out, visible(text))
	return err
}

// describe says in a sentence how the node stands.
func describe(s gpupolicy.Status) string {
	switch s.State {
	case balance.Draining.String():
		return fmt.Sprintf("%s is draining: %s left", s.Address, requests(s.InFlight))
	case balance.Drained.String():
		return s.Address + " is drained: nothing left"
	case balance.SlowStart.String():
		return s.Address + " is up, in slow start"
	default:
		return fmt.Sprintf("%s is %s: %s", s.Address, s.State, s.Reason)
	}
}

func requests(n int) string {
	if n == 1 {
		return "1 request"
	}
	return fmt.Sprintf("%d requests", n)
}
