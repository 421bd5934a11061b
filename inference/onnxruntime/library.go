package onnxruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// LibraryVariable is the environment variable that names the shared library
// of ONNX Runtime, or the directory that holds it, for models that have no
// `library` option.
const LibraryVariable = "ONNXRUNTIME_LIB"

const howToInstall = "install it with `pip install onnxruntime` (1.28 or newer; on a C library other than glibc, " +
	"with the system's own package) or name the file with the option `library` or the variable " + LibraryVariable

// pythonTimeout bounds the child that is asked for the onnxruntime package: a
// cold interpreter on a slow disk starts in one to two seconds.
const pythonTimeout = 5 * time.Second

// search is where to look for the library. Its functions are the edges that
// a test replaces.
type search struct {
	getenv func(string) string
	// python returns the directory of the installed onnxruntime package.
	python func() (string, error)
	// load makes the library ready for use.
	load func(path string) error
}

// find loads the library and returns the path that worked. A library that the
// user named is the only one tried: another one in its place would be a
// surprise. Otherwise the loader's own search path comes first, then Python.
func (s search) find(option string) (string, error) {
	for _, named := range []struct{ from, path string }{
		{"option library", option},
		{"variable " + LibraryVariable, s.getenv(LibraryVariable)},
	} {
		if named.path == "" {
			continue
		}
		path, err := resolve(named.path)
		if err == nil {
			err = s.load(path)
		}
		if err != nil {
			return "", fmt.Errorf("loading ONNX Runtime (%s): %w", named.from, err)
		}
		return path, nil
	}

	var tried []string
	for _, soname := range sonames() {
		err := s.load(soname)
		if err == nil {
			return soname, nil
		}
		tried = append(tried, err.Error())
	}
	path, err := s.python()
	if err == nil {
		path, err = resolve(path)
	}
	if err == nil {
		if err = s.load(path); err == nil {
			return path, nil
		}
	}
	tried = append(tried, err.Error())
	return "", fmt.Errorf("loading ONNX Runtime: no library found: %s; %s", strings.Join(tried, "; "), howToInstall)
}

// sonames are what the system's loader is asked for.
func sonames() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		// Homebrew's directory on Apple silicon is not on dyld's path.
		return []string{"libonnxruntime.dylib", "/opt/homebrew/lib/libonnxruntime.dylib"}
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.1"}
}

// resolve turns a directory into the library in it: the directory itself, or
// the Python package's or a release archive's. Other paths stay as they are.
func resolve(path string) (string, error) {
	info, err := os.Stat(path) //nolint:gosec // the operator names the library
	if err != nil || !info.IsDir() {
		return path, nil // the loader searches for bare names, and says what is wrong
	}
	for _, sub := range []string{"", "capi", "lib"} {
		// Not libonnxruntime_providers_shared.so, which lies beside it.
		for _, pattern := range []string{"libonnxruntime.so*", "libonnxruntime.*dylib", "onnxruntime.dll"} {
			if found, _ := filepath.Glob(filepath.Join(path, sub, pattern)); len(found) > 0 {
				return found[0], nil
			}
		}
	}
	return "", fmt.Errorf("no libonnxruntime in %s", path)
}

// askPython prints the directory of the package without importing it, which
// would take a second and load the library into the wrong process.
const askPython = `import importlib.util as u
s = u.find_spec("onnxruntime")
print(s.submodule_search_locations[0] if s and s.submodule_search_locations else "")`

func installedPackage() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pythonTimeout)
	defer cancel()
	return pythonPackage(ctx)
}

// pythonPackage asks the Python on PATH where its onnxruntime package is.
func pythonPackage(ctx context.Context) (string, error) {
	interpreter, err := exec.LookPath("python3")
	if err != nil {
		interpreter, err = exec.LookPath("python")
	}
	if err != nil {
		return "", errors.New("no Python on PATH whose onnxruntime package could be used")
	}
	cmd := exec.CommandContext(ctx, interpreter, "-c", askPython)
	cmd.WaitDelay = time.Second
	// Modules of the working directory must not run in the server's name.
	cmd.Dir = filepath.VolumeName(interpreter) + string(filepath.Separator)
	cmd.Env = append(os.Environ(), "PYTHONSAFEPATH=1")
	out, err := limitedOutput(cmd)
	if err != nil {
		return "", fmt.Errorf("asking %s for its onnxruntime package: %w", interpreter, err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n") // site hooks may print before
	dir := strings.TrimSpace(lines[len(lines)-1])
	if dir == "" {
		return "", fmt.Errorf("%s has no onnxruntime package", interpreter)
	}
	return dir, nil
}

// limitedOutput is cmd.Output with a bound on what a child can say.
func limitedOutput(cmd *exec.Cmd) (string, error) {
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var out bytes.Buffer
	_, readErr := io.Copy(&out, io.LimitReader(pipe, 64<<10))
	_ = pipe.Close() // a child that still writes ends
	if err := cmd.Wait(); err != nil {
		return "", err
	}
	return out.String(), readErr
}
