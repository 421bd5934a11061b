package modeldir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// Sizes beyond which a file is not what its name says.
const (
	maxJSON     = 8 << 20
	maxEmbedded = 256 << 20 // weights that cannot be mapped are read whole
)

// Open reads the configuration of the model directory at path. Weights and
// tokenizer are read by those who need them.
func Open(path string) (*Dir, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening model %s: no such directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening model: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("opening model %s: give the directory that holds %s, not a file", path, ConfigFile)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening model: %w", err)
	}
	dir, err := OpenFS(path, os.DirFS(abs))
	if err != nil {
		return nil, err
	}
	dir.Path = abs
	return dir, nil
}

// OpenFS is Open for files that are not on disk, such as embedded ones.
func OpenFS(name string, fsys fs.FS) (*Dir, error) {
	files := configFiles{}
	for file, into := range map[string]*[]byte{
		ConfigFile: &files.config, ModelScopeFile: &files.modelScope, LabelMappingFile: &files.labelMapping,
	} {
		data, err := readFile(fsys, file, maxJSON)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("opening model %s: %w", name, err)
		}
		*into = data
	}
	if files.config == nil {
		return nil, fmt.Errorf("opening model %s: %s is missing: "+
			"a model directory holds %s, vocab.txt or tokenizer.json, and %s or %s "+
			"(examples/export makes one from a download)", name, ConfigFile, ConfigFile, WeightsFile, ONNXFile)
	}
	config, err := files.parse()
	if err != nil {
		return nil, fmt.Errorf("opening model %s: %w", name, err)
	}
	return &Dir{Name: name, FS: fsys, Config: config}, nil
}

// Has says whether a regular file of that name is there.
func (d *Dir) Has(file string) bool {
	info, err := fs.Stat(d.FS, file)
	return err == nil && info.Mode().IsRegular()
}

// Weights opens model.safetensors; the caller closes it.
func (d *Dir) Weights() (*safetensors.File, error) {
	if !d.Has(WeightsFile) {
		return nil, fmt.Errorf("loading model %s: %w", d.Name, d.noWeights())
	}
	return d.tensors(WeightsFile)
}

func (d *Dir) noWeights() error {
	switch {
	case d.Has(shardedIndexFile):
		return fmt.Errorf("%s is missing but its shards are there: join them with examples/export/convert.py", WeightsFile)
	case d.Has(torchFile):
		return fmt.Errorf("%s is there but %s is not: convert it with examples/export/convert.py", torchFile, WeightsFile)
	case d.Has(ONNXFile):
		return fmt.Errorf("%s is missing: %s alone needs `engine onnxruntime`", WeightsFile, ONNXFile)
	}
	return fmt.Errorf("%s is missing", WeightsFile)
}

// tensors opens a safetensors file: mapped when it is on disk.
func (d *Dir) tensors(file string) (*safetensors.File, error) {
	if d.Path != "" {
		f, err := safetensors.Open(filepath.Join(d.Path, file))
		if err != nil {
			return nil, fmt.Errorf("loading model %s: %w", d.Name, err)
		}
		return f, nil
	}
	data, err := readFile(d.FS, file, maxEmbedded)
	if err != nil {
		return nil, fmt.Errorf("loading model %s: %w", d.Name, err)
	}
	f, err := safetensors.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("loading model %s: reading %s: %w", d.Name, file, err)
	}
	return f, nil
}

// readFile reads a file of at most limit bytes.
func readFile(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading %s: more than %d MiB: not the file that its name says", name, limit>>20)
	}
	return data, nil
}
