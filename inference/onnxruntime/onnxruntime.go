// Package onnxruntime is the engine "onnxruntime": it runs a model's ONNX
// graph, in fp32 or quantised to INT8, with Microsoft's ONNX Runtime.
//
// Importing the package registers the engine; there is nothing else to call.
// It is a Go module of its own because it needs cgo and, when it runs, the
// shared library of ONNX Runtime 1.28 or newer, which README.md says how to
// get. Built without cgo it still registers the engine, whose error then says
// how to rebuild.
package onnxruntime

import "github.com/caddy-infer/caddy-infer/inference/engine"

// name is what the `engine` option calls this engine.
const name = "onnxruntime"

func init() { engine.Register(name, open) }
