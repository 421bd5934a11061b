package onnxruntime

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/caddy-infer/caddy-infer/inference/engine"
	"github.com/caddy-infer/caddy-infer/inference/modeldir"
)

func TestPrecisionChoosesTheGraph(t *testing.T) {
	const both = "model.onnx model.int8.onnx"
	tests := []struct {
		name    string
		files   string
		want    engine.Precision
		file    string
		is      engine.Precision
		wantErr string
	}{
		{"fp32 unless asked", both, "", "model.onnx", engine.FP32, ""},
		{"fp32 asked", both, engine.FP32, "model.onnx", engine.FP32, ""},
		{"int8 asked", both, engine.INT8, "model.int8.onnx", engine.INT8, ""},
		{"int8 when it is all there is", "model.int8.onnx", "", "model.int8.onnx", engine.INT8, ""},
		{"optimum's name", "model.onnx model_quantized.onnx", engine.INT8, "model_quantized.onnx", engine.INT8, ""},
		{"transformers.js's name", "model_int8.onnx", engine.INT8, "model_int8.onnx", engine.INT8, ""},
		{
			"no int8 file names the export command", "model.onnx", engine.INT8, "", "",
			"python3 examples/export/onnx_bert.py --int8 /models/ner",
		},
		{"no fp32 file", "model.int8.onnx", engine.FP32, "", "", "use precision int8"},
		{
			"no graph names the export command", "model.safetensors", "", "", "",
			"python3 examples/export/onnx_bert.py /models/ner",
		},
		{"optimum's folder", "onnx/model.onnx", "", "", "", "move it beside config.json"},
		{"a precision of no engine", both, "fp64", "", "", `unknown precision "fp64"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for f := range strings.FieldsSeq(tt.files) {
				files[f] = &fstest.MapFile{}
			}
			file, is, err := chooseFile(&modeldir.Dir{FS: files, Path: "/models/ner"}, tt.want)
			if file != tt.file || is != tt.is {
				t.Errorf("got %q, %q, want %q, %q", file, is, tt.file, tt.is)
			}
			if got := errText(err); (tt.wantErr == "") != (err == nil) || !strings.Contains(got, tt.wantErr) {
				t.Errorf("got error %q, want %q", got, tt.wantErr)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
