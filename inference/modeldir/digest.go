package modeldir

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	return isWeights(name)
}

// isWeights is for weights in the forms that engines of this project run.
func isWeights(name string) bool {
	return hasSuffix(name, ".safetensors", ".onnx", ".onnx.data", ".onnx_data")
}

// isForeignWeights is for weights in the forms that only others run.
func isForeignWeights(name string) bool {
	return hasSuffix(name, ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".pdparams", ".h5", ".engine", ".plan")
}

func hasSuffix(name string, suffixes ...string) bool {
	return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// Digest identifies the model by the content of the files that define it:
// "sha256:" and what `sha256sum FILES | sha256sum` prints for those files in
// the order of their names. Files on disk are hashed once as long as their
// size and modification time stay.
func (d *Dir) Digest() (string, error) {
	return d.digest(context.Background(), defines)
}

// DigestFiles identifies a model directory that some other program runs, and
// that need not be one that Open understands. It is the digest that Open's Dir
// has, except that weights in foreign forms (pytorch_model.bin and the like)
// count where there are none in ours. It ends early with the context.
func DigestFiles(ctx context.Context, path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("hashing model: %w", err)
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return "", fmt.Errorf("hashing model: %w", err)
	}
	ours := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return isWeights(e.Name()) })
	counts := func(name string) bool { return defines(name) || !ours && isForeignWeights(name) }
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return counts(e.Name()) }) {
		return "", fmt.Errorf("hashing model %s: no file of a model is there: give the directory that holds %s and the weights", path, ConfigFile)
	}
	return (&Dir{Name: path, Path: abs, FS: os.DirFS(abs)}).digest(ctx, counts)
}

func (d *Dir) digest(ctx context.Context, counts func(name string) bool) (string, error) {
	entries, err := fs.ReadDir(d.FS, ".") // sorted by name
	if err != nil {
		return "", fmt.Errorf("hashing model %s: %w", d.Name, err)
	}
	total := sha256.New()
	for _, e := range entries {
		if !counts(e.Name()) {
			continue
		}
		sum, err := d.fileDigest(ctx, e.Name())
		if err != nil {
			return "", fmt.Errorf("hashing model %s: %w", d.Name, err)
		}
		fmt.Fprintf(total, "%s  %s\n", sum, e.Name())
	}
	return "sha256:" + hex.EncodeToString(total.Sum(nil)), nil
}

// WeightsDigest is the SHA-256 of model.safetensors, in hexadecimal.
func (d *Dir) WeightsDigest() (string, error) {
	sum, err := d.fileDigest(context.Background(), WeightsFile)
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

func (d *Dir) fileDigest(ctx context.Context, name string) (string, error) {
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
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
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

// contextReader ends a long reading with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
