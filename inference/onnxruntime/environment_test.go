//go:build cgo && unix

package onnxruntime

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-infer/caddy-infer/inference/engine"
)

// compileLibrary makes a shared library of some C.
func compileLibrary(t *testing.T, name, source string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "lib.c"), source)
	lib := filepath.Join(dir, name)
	if out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-o", lib, filepath.Join(dir, "lib.c")).CombinedOutput(); err != nil {
		t.Skipf("a C compiler is needed to make a library: %v %s", err, out)
	}
	return lib
}

// An old library answers nil for the API that the binding asks for.
const oldRuntime = `
struct api_base { const void *(*get_api)(unsigned version); const char *(*version)(void); };
static const void *get_api(unsigned version) { return 0; }
static const char *version(void) { return "1.14.0"; }
static const struct api_base base = {get_api, version};
const struct api_base *OrtGetApiBase(void) { return &base; }
`

func TestAnUnusableLibraryIsExplained(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	other := compileLibrary(t, "libother.so", "int other(void) { return 1; }")
	old := compileLibrary(t, "libonnxruntime.so.1.14.0", oldRuntime)
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	writeFile(t, text, "not a library")
	for lib, want := range map[string]string{
		old:               old + " is older than ONNX Runtime 1.28",
		filepath.Dir(old): old + " is older than ONNX Runtime 1.28",
		other:             "it has no OrtGetApiBase",
		text:              text + ": ",
		"/nowhere/lib.so": "/nowhere/lib.so: cannot open shared object file",
		t.TempDir():       "no libonnxruntime in",
	} {
		_, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{Library: lib})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "loading ONNX Runtime") {
			t.Errorf("library %s: got error %v, want one with %q", lib, err, want)
		}
		if strings.Count(errText(err), lib) > 1 {
			t.Errorf("library %s: the error repeats itself: %v", lib, err)
		}
	}
	t.Setenv(LibraryVariable, old)
	_, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{})
	if err == nil || !strings.Contains(err.Error(), "variable "+LibraryVariable) {
		t.Errorf("got error %v", err)
	}
	t.Setenv(LibraryVariable, "")
	openEngine(t, "onnxruntime", dir, engine.Options{}) // and the next try succeeds
}

func TestOneProcessHasOneLibrary(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	old := compileLibrary(t, "libonnxruntime.so.1.14.0", oldRuntime)
	batch := []engine.Sequence{{IDs: []int32{1, 2, 3}}}

	first := openEngine(t, "onnxruntime", dir, engine.Options{})
	loaded := process.library
	openEngine(t, "onnxruntime", dir, engine.Options{Library: loaded}) // named, and the same
	_, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{Library: old})
	if err == nil || !strings.Contains(err.Error(), "one process has one") || !strings.Contains(err.Error(), loaded) {
		t.Errorf("got error %v", err)
	}
	run(t, first, batch)
	if process.sessions != 2 {
		t.Errorf("%d sessions, want 2", process.sessions)
	}
}

// A library is only given up for another one, and must then come back as if
// nothing had been.
func TestTheLibraryCanBeLoadedAgain(t *testing.T) {
	dir := exported(t, "small", tokenHead)
	batch := []engine.Sequence{{IDs: []int32{1, 2, 3}}}
	for range 5 {
		e, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{})
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, batch)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Open("onnxruntime", openDir(t, dir), engine.Options{Library: "/nowhere/lib.so"}); err == nil {
			t.Fatal("a library that does not exist was loaded")
		}
		if process.library != "" {
			t.Fatalf("%s is still loaded", process.library)
		}
	}
}
