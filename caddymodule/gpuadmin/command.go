package gpuadmin

import (
	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "gpu",
		Usage: "<command>",
		Short: "Shows GPUs and model nodes, and directs the nodes of lb_policy gpu",
		Long: `
Shows what this host's GPUs and other nodes say of themselves (probe), shows the
nodes that lb_policy gpu chooses among (nodes), gives orders about them (drain,
resume, weight), and finds out what losing a node costs (drill).

	$ caddy gpu probe                                # this host
	$ caddy gpu probe --source dcgm http://node-a:9400/metrics
	$ caddy gpu nodes --watch
	$ caddy gpu drain 10.0.0.1:8081
	$ caddy gpu drill --url http://localhost:8080/predict --data '{"text":"…"}'

Orders take effect at once, in every handler that uses the node, and outlive
reloads of the configuration. They end when they are taken back, or with the
process.
`,
		CobraFunc: setUpCommand,
	})
}

// subcommands make the commands below `caddy gpu`.
var subcommands = []func() *cobra.Command{
	func() *cobra.Command { return probeCommand(hostSources) },
	nodesCommand,
	drainCommand,
	resumeCommand,
	weightCommand,
	drillCommand,
}

func setUpCommand(cmd *cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for _, sub := range subcommands {
		cmd.AddCommand(sub())
	}
}
