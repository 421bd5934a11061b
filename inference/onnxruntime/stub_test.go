//go:build !cgo

package onnxruntime

import (
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func TestABuildWithoutCgoSaysHowToRebuild(t *testing.T) {
	_, err := engine.Open("onnxruntime", &modeldir.Dir{}, engine.Options{})
	if err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got error %v, want one that says CGO_ENABLED=1", err)
	}
}
