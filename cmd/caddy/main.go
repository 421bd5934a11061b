// Command caddy is Caddy with every module of caddy-infer.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-infer/caddy-infer"
)

func main() { caddycmd.Main() }
