module github.com/caddy-infer/caddy-infer

go 1.26
