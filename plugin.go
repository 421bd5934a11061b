// Package caddyinfer registers every Caddy module of caddy-infer, so that
//
//	xcaddy build --with github.com/caddy-infer/caddy-infer
//
// gives a Caddy that has them all.
package caddyinfer

import (
	_ "github.com/caddy-infer/caddy-infer/caddymodule/dashboard"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/gpuadmin"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/gpupolicy"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/gpustatus"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/handover"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/inferhandler"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/modelproxy"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/nerhighlight"
	_ "github.com/caddy-infer/caddy-infer/caddymodule/sharedcache"
)
