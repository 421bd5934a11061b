package modeldir

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// defining are the files, apart from weights, that change what a model says.
var defining = map[string]bool{
	ConfigFile: true, ModelScopeFile: true, LabelMappingFile: true,
	"vocab.txt": true, "tokenizer.json": true, "tokenizer_config.json": true,
	"special_tokens_map.json": true, "added_tokens.json": true, "char_map.txt": true,
}

// defines says whether a file belongs to the model, as against a README, a
// licence, or the weights in a form that is not run.
func defines(name string) bool {
	if defining[name] {
		return true
	}
	for _, suffix := range []string{".safetensors", ".onnx", ".onnx.data", ".onnx_data"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// Digest identifies the model by the content of the files that define it:
// "sha256:" and what `sha256sum FILES | sha256sum` prints for those files in
// the order of their names. Files on disk are hashed once as long as their
// size and modification time stay.
func (d *Dir) Digest() (string, error) {
	entries, err := fs.ReadDir(d.FS, ".") // sorted by name
	if err != nil {
		return "", fmt.Errorf("hashing model %s: %w", d.Name, err)
	}
	total := sha256.New()
	for _, e := range entries {
		if !defines(e.Name()) {
			continue
		}
		sum, err := d.fileDigest(e.Name())
		if err != nil {
			return "", fmt.Errorf("hashing model %s: %w", d.Name, err)
		}
		fmt.Fprintf(total, "%s  %s\n", sum, e.Name())
	}
	return "sha256:" + hex.EncodeToString(total.Sum(nil)), nil
}

// WeightsDigest is the SHA-256 of model.safetensors, in hexadecimal.
func (d *Dir) WeightsDigest() (string, error) {
	sum, err := d.fileDigest(WeightsFile)
	if err != nil {
		return "", fmt.Errorf("hashing weights of model %s: %w", d.Name, err)
	}
	return sum, nil
}

type fileVersion struct {
	path    string
	size    int64
	changed time.Time
}

// A reload opens every model again; hashing 400 MB takes 0.3 s to 2 s, so
// the sums of unchanged files are remembered.
var (
	sumsMu sync.Mutex
	sums   = map[fileVersion]string{}
)

// maxSums bounds the memory of a process that sees very many directories.
const maxSums = 4096

func (d *Dir) fileDigest(name string) (string, error) {
	f, err := d.FS.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", name)
	}
	version := fileVersion{filepath.Join(d.Path, name), info.Size(), info.ModTime()}
	if d.Path != "" {
		sumsMu.Lock()
		sum, known := sums[version]
		sumsMu.Unlock()
		if known {
			return sum, nil
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if d.Path != "" {
		sumsMu.Lock()
		if len(sums) >= maxSums {
			clear(sums)
		}
		sums[version] = sum
		sumsMu.Unlock()
	}
	return sum, nil
}
