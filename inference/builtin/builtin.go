// Package builtin holds the models inside the binary, so that a new
// installation answers before anybody downloads anything. They are small
// demonstration models; each folder's README.md has the measured figures and
// the licence of the weights, and train/ the scripts that made them.
package builtin

import (
	"embed"
	"io/fs"
)

// Weights and their licence travel together; README.md stays in the source.
//
//go:embed */*.json */*.txt */*.safetensors */LICENSE
var models embed.FS

// Open returns the directory of a model by its name without "builtin/", for
// instance "ner-zh". The files are read-only and safe for concurrent use.
func Open(name string) (fs.FS, bool) {
	if !isModel(name) {
		return nil, false
	}
	dir, err := fs.Sub(models, name)
	if err != nil {
		return nil, false
	}
	return dir, true
}

// Names lists the models, sorted.
func Names() []string {
	entries, err := models.ReadDir(".")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if isModel(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// isModel keeps other embedded folders, and paths that climb, out.
func isModel(name string) bool {
	if !fs.ValidPath(name) || name == "." {
		return false
	}
	_, err := fs.Stat(models, name+"/config.json")
	return err == nil
}
