//go:build !cgo

package onnxruntime

import (
	"errors"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func open(*modeldir.Dir, engine.Options) (engine.Engine, error) {
	return nil, errors.New("engine onnxruntime was built without cgo: rebuild with CGO_ENABLED=1 " +
		"(xcaddy turns cgo off unless that is set) and a C compiler")
}
