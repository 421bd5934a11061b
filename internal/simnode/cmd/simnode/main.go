// Command simnode is a simulated model node; see package simnode. It prints its
// addresses as a line of JSON and runs until its standard input ends.
//
//	go run ./internal/simnode/cmd/simnode -listen 127.0.0.1:8081 -control 127.0.0.1:9081
//	curl -d '{"id":"1","text":"…"}' 127.0.0.1:8081/predict
//	curl -X PUT -d '{"co_tenant":0.85}' 127.0.0.1:9081
//	curl -X PUT -d '{"mode":"hang"}' 127.0.0.1:9081
package main

import (
	"fmt"
	"os"

	"github.com/caddy-infer/caddy-infer/internal/simnode"
)

func main() {
	if err := simnode.Main(); err != nil {
		fmt.Fprintln(os.Stderr, "simnode:", err)
		os.Exit(1)
	}
}
