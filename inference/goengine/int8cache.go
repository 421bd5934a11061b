package goengine

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/caddy-infer/caddy-infer/inference/modeldir"
	"github.com/caddy-infer/caddy-infer/inference/safetensors"
)

// CacheFile keeps a model's 8-bit weights beside model.safetensors. It is a
// safetensors file whose tensor "key" names the version of its layout and the
// digest of the weights that it was made from, and whose tensor "checksum"
// guards the rest. Whatever is not as it should be is made anew.
const CacheFile = "model.int8.cache"

// cacheVersion changes with the rounding of weights and their layout.
const cacheVersion = "caddy-infer int8 weights, version 1, of sha256:"

const keyTensor, checksumTensor = "key", "checksum"

// cacheFile returns the cache's path and key; no path for models that are not
// on disk.
func cacheFile(dir *modeldir.Dir) (path, key string) {
	if dir.Path == "" {
		return "", ""
	}
	digest, err := dir.WeightsDigest()
	if err != nil {
		return "", ""
	}
	return filepath.Join(dir.Path, CacheFile), cacheVersion + digest
}

// readCache maps the cache if it is whole and of this key.
func readCache(path, key string) *safetensors.File {
	if path == "" {
		return nil
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return nil
	}
	var tensors []safetensors.Tensor
	for _, name := range file.Names() {
		t, _ := file.Tensor(name)
		tensors = append(tensors, t)
	}
	found, _ := file.Tensor(keyTensor)
	sum, _ := file.Tensor(checksumTensor)
	if string(found.Data) != key || !bytes.Equal(sum.Data, checksum(tensors)) {
		_ = file.Close()
		return nil
	}
	return file
}

// checksum is the CRC-32C (which processors compute at memory speed) of all
// other tensors' names and data, in the order of the names.
func checksum(tensors []safetensors.Tensor) []byte {
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b safetensors.Tensor) int {
		return bytes.Compare([]byte(a.Name), []byte(b.Name))
	})
	table := crc32.MakeTable(crc32.Castagnoli)
	var sum uint32
	for _, t := range tensors {
		if t.Name != checksumTensor {
			sum = crc32.Update(crc32.Update(sum, table, []byte(t.Name)), table, t.Data)
		}
	}
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// writeCache writes the cache and maps it. It returns nil where that is not
// possible: the directory may be for reading only, or the disk full.
func writeCache(path, key string, tensors []safetensors.Tensor) *safetensors.File {
	if path == "" {
		return nil
	}
	text := func(name string, data []byte) safetensors.Tensor {
		return safetensors.Tensor{Name: name, DType: safetensors.U8, Shape: []int{len(data)}, Data: data}
	}
	tensors = append(slices.Clip(tensors), text(keyTensor, []byte(key)))
	tensors = append(tensors, text(checksumTensor, checksum(tensors)))
	if err := replaceFile(path, func(f *os.File) error { return safetensors.Write(f, tensors) }); err != nil {
		return nil
	}
	return readCache(path, key)
}

// replaceFile writes a file under another name and renames it, so that a
// reader finds the old one or the new one, whole. It does not wait for the
// disk: what a power cut leaves does not pass the checksum.
func replaceFile(path string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	mode := fs.FileMode(0o644)
	if info, statErr := os.Stat(filepath.Join(filepath.Dir(path), modeldir.WeightsFile)); statErr == nil {
		mode = info.Mode().Perm() | 0o200
	}
	err = write(f)
	if err == nil && runtime.GOOS != "windows" {
		err = f.Chmod(mode) // CreateTemp's would hide it from other users who may read the model
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
