// Package modeldir reads a model directory in Hugging Face or ModelScope
// layout: config.json, vocab.txt or tokenizer.json, model.safetensors and/or
// model.onnx. It knows what files mean, not how to run them.
package modeldir

import (
	"encoding/json"
	"io/fs"
)

// Task is what a model's head does.
type Task string

// The tasks that caddy-infer serves.
const (
	TokenClassification    Task = "token-classification"
	SequenceClassification Task = "text-classification"
)

// The files of a model directory. README.md of examples/export says where
// each comes from.
const (
	ConfigFile       = "config.json"        // the network's dimensions; Hugging Face's
	ModelScopeFile   = "configuration.json" // optional: task and label map; ModelScope's
	LabelMappingFile = "label_mapping.json" // optional: label to column; ModelScope's
	WeightsFile      = "model.safetensors"  // for the engine "go"
	ONNXFile         = "model.onnx"         // for the engine "onnxruntime"
	CRFFile          = "crf.safetensors"    // optional: CRF weights beside a model.onnx
	torchFile        = "pytorch_model.bin"  // to be converted
	shardedIndexFile = WeightsFile + ".index.json"
)

// Dir is an opened model directory. It is immutable.
type Dir struct {
	// Name is what the user called it: "builtin/ner-zh" or a path.
	Name string
	// FS holds the files.
	FS fs.FS
	// Path is the directory on disk, empty for embedded models. Files with a
	// path can be memory-mapped or handed to native libraries.
	Path string
	// Config is what config.json (and ModelScope's configuration.json) say.
	Config Config
}

// Config is the part of a model's configuration that every engine needs.
type Config struct {
	// Architecture is Hugging Face's class name, for instance
	// BertForTokenClassification.
	Architecture string
	// ModelType is the family: bert, charcnn.
	ModelType string
	Task      Task
	// Labels by output column.
	Labels []string
	// MultiLabel says that each label is a sigmoid of its own instead of one
	// softmax over all.
	MultiLabel bool
	// MaxTokens is the longest sequence the network takes, special tokens
	// included; 0 means unbounded.
	MaxTokens int
	// Raw is config.json itself, for the engine's own fields.
	Raw json.RawMessage
}
