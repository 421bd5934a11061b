package onnxruntime

import (
	"fmt"
	"strings"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

// int8Files are the names under which tools leave a quantised graph, in the
// order of preference: examples/export/onnx_bert.py, Hugging Face's optimum,
// and transformers.js.
var int8Files = []string{"model.int8.onnx", "model_quantized.onnx", "model_int8.onnx"}

// chooseFile returns the graph to run. Without a wish for a precision it is
// model.onnx, whose answers are the original's; INT8 is used when it is asked
// for, or when nothing else is there.
func chooseFile(dir *modeldir.Dir, want engine.Precision) (file string, is engine.Precision, err error) {
	full := dir.Has(modeldir.ONNXFile)
	quantised := ""
	for _, f := range int8Files {
		if dir.Has(f) {
			quantised = f
			break
		}
	}
	switch {
	case want != "" && want != engine.FP32 && want != engine.INT8:
		return "", "", fmt.Errorf("unknown precision %q: use %s or %s", want, engine.FP32, engine.INT8)
	case full && want != engine.INT8:
		return modeldir.ONNXFile, engine.FP32, nil
	case quantised != "" && want != engine.FP32:
		return quantised, engine.INT8, nil
	}
	return "", "", missing(dir, want, quantised)
}

// missing explains which file is not there and what makes it.
func missing(dir *modeldir.Dir, want engine.Precision, quantised string) error {
	place := dir.Path
	if place == "" {
		place = "MODEL_DIR" // embedded files cannot be added to
	}
	export := "python3 examples/export/onnx_bert.py "
	switch {
	case dir.Has("onnx/" + modeldir.ONNXFile):
		return fmt.Errorf("%s is in the folder onnx: move it beside %s", modeldir.ONNXFile, modeldir.ConfigFile)
	case want == engine.INT8:
		return fmt.Errorf("precision int8 needs %s (or %s): make it with `%s--int8 %s`",
			int8Files[0], strings.Join(int8Files[1:], ", "), export, place)
	case quantised != "":
		return fmt.Errorf("precision fp32 needs %s, and only %s is there: use precision int8, or make it with `%s%s`",
			modeldir.ONNXFile, quantised, export, place)
	}
	return fmt.Errorf("%s is missing: make it from %s with `%s%s`",
		modeldir.ONNXFile, modeldir.WeightsFile, export, place)
}
