// Command caddy is what the README of examples/shared-cache builds with xcaddy.
package main

import (
	_ "github.com/caddyserver/cache-handler"
	_ "github.com/darkweak/storages/redis/caddy"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-infer/caddy-infer"
)

func main() { caddycmd.Main() }
