package gpuadmin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
)

func nodesCommand() *cobra.Command {
	var c client
	var asJSON, watching bool
	interval := time.Second
	cmd := &cobra.Command{
		Use:   "nodes [--watch] [--interval <duration>] [--json] [--address <admin>]",
		Short: "Lists the nodes: state, load, latency, score, weight and share",
		Long: `
Lists the nodes of lb_policy gpu with their state and why, requests in flight,
latency (the moving average of the time to first byte), score (the lowest gets
the next request), weight, tier, share of picks and ejections.

With --watch, draws the table anew each second until interrupted, and the share
is that of the time between. With --json, prints what the admin API answers;
with both, once a second on a line of its own.

	$ caddy gpu nodes
	$ caddy gpu nodes --watch
	$ caddy gpu nodes --json | jq '.[] | select(.state != "up")'
`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			s := newScreen(out, asJSON)
			if !watching {
				nodes, err := c.nodes()
				if err != nil {
					return err
				}
				return s.show(nodes)
			}
			if interval < 50*time.Millisecond {
				return fmt.Errorf("interval %v: want at least 50ms", interval)
			}
			ctx, cancel := interruptible(cmd)
			defer cancel()
			return watch(ctx, s, interval, c.nodes)
		},
	}
	c.addFlags(cmd)
	cmd.Flags().BoolVarP(&watching, "watch", "w", false, "Keep showing until interrupted")
	cmd.Flags().DurationVar(&interval, "interval", interval, "With --watch, how often")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	return cmd
}

// interruptible is the command's context until the user or the system ends it.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil { // cobra leaves it nil where Execute was given none
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// watch shows the nodes again and again. A Caddy that can't be reached for a
// while, as while it restarts, is said so and asked again; one that could never
// be reached is an error.
func watch(ctx context.Context, s screen, interval time.Duration, ask func() ([]gpupolicy.Status, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	s.begin()
	defer s.end()
	for reached := false; ; {
		nodes, err := ask()
		switch {
		case err == nil:
			reached = true
			if err := s.show(nodes); err != nil {
				return err
			}
		case !reached:
			return err
		default:
			if err := s.trouble(err); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// screen is what nodes are shown on.
type screen interface {
	begin()
	show(nodes []gpupolicy.Status) error
	trouble(err error) error
	end()
}

func newScreen(out io.Writer, asJSON bool) screen {
	if asJSON {
		return jsonLines{out}
	}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &terminal{plain: plain{out: out}, size: func() (int, int, error) { return term.GetSize(int(f.Fd())) }}
	}
	return &plain{out: out}
}

// jsonLines prints one JSON document per line.
type jsonLines struct{ out io.Writer }

func (jsonLines) begin() {}

func (j jsonLines) show(nodes []gpupolicy.Status) error {
	return json.NewEncoder(j.out).Encode(nodes)
}

func (j jsonLines) trouble(err error) error {
	return json.NewEncoder(j.out).Encode(map[string]string{"error": err.Error()})
}

func (jsonLines) end() {}

// plain prints table after table.
type plain struct {
	out   io.Writer
	last  []gpupolicy.Status
	again bool
}

func (*plain) begin() {}

func (p *plain) show(nodes []gpupolicy.Status) error {
	table := nodeTable(nodes, p.last, 0) + "\n"
	if p.again {
		table = "\n" + table
	}
	p.last, p.again = nodes, true
	_, err := io.WriteString(p.out, table)
	return err
}

func (p *plain) trouble(err error) error {
	_, err = fmt.Fprintln(p.out, visible(err.Error()))
	return err
}

func (*plain) end() {}

// terminal draws each table over the last one, on a screen of its own that
// gives the user's back at the end.
type terminal struct {
	plain
	size   func() (width, height int, err error)
	redraw bool
	table  string
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate screen, and no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func (t *terminal) begin() {
	t.redraw = true
	fmt.Fprint(t.out, enterScreen)
}

func (t *terminal) end() { fmt.Fprint(t.out, leaveScreen) }

func (t *terminal) show(nodes []gpupolicy.Status) error {
	width, _, err := t.size()
	if err != nil {
		width = 0
	}
	t.table = nodeTable(nodes, t.last, width)
	t.last = nodes
	if !t.redraw {
		_, err = fmt.Fprintln(t.out, t.table)
		return err
	}
	return t.draw(time.Now().Format(time.TimeOnly) + "  Ctrl-C ends")
}

func (t *terminal) trouble(err error) error { return t.draw(visible(err.Error())) }

func (t *terminal) draw(status string) error {
	lines := append(strings.Split(t.table, "\n"), status)
	if width, height, err := t.size(); err == nil && width > 0 && height > 0 {
		if len(lines) > height {
			lines = append(lines[:height-1], "… the screen is too low for all nodes")
		}
		last := &lines[len(lines)-1]
		*last = text.Snip(*last, width, "…")
	}
	_, err := io.WriteString(t.out, toTop+strings.Join(lines, clearLine+"\n")+clearLine+clearBelow)
	return err
}
