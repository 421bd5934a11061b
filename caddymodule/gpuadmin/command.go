package gpuadmin

import (
	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "gpu",
		Usage: "<command>",
		Short: "Shows and directs the nodes of lb_policy gpu",
		Long: `
Shows the nodes that lb_policy gpu chooses among, and gives orders about them.

Orders take effect at once, in every handler that uses the node, and outlive
reloads of the configuration. They end when they are taken back, or with the
process.
`,
		CobraFunc: setUpCommand,
	})
}

// subcommands make the commands below `caddy gpu`.
var subcommands = []func() *cobra.Command{
	nodesCommand,
	drainCommand,
	resumeCommand,
	weightCommand,
}

func setUpCommand(cmd *cobra.Command) {
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for _, sub := range subcommands {
		cmd.AddCommand(sub())
	}
}
