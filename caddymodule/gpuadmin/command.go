// Package gpuadmin gives operators the command `caddy gpu`.
package gpuadmin

import (
	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "gpu",
		Short: "Shows what GPUs and model nodes are doing",
		Long: `
Shows what GPUs and model nodes are doing.

	$ caddy gpu probe                                # this host
	$ caddy gpu probe --source dcgm http://node-a:9400/metrics
	$ caddy gpu probe --source json http://node-a:8081/gpu/status --watch
`,
		CobraFunc: setUpCommand,
	})
}

func setUpCommand(cmd *cobra.Command) {
	cmd.AddCommand(probeCommand(hostSources))
}
