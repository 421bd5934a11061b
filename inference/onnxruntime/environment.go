//go:build cgo

package onnxruntime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// environment is ONNX Runtime in this process: one library and one OrtEnv,
// whatever the number of models. It stays loaded when the last model closes,
// because a reload opens the next one soon, and is only given up for a
// different library that some model names.
type environment struct {
	mu       sync.Mutex
	library  string // loaded; empty before the first use
	sessions int
}

var process environment

// retain makes the library ready for one more session.
func (e *environment) retain(option string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.library != "" {
		if err := e.exchange(option); err != nil {
			return err
		}
	}
	if e.library == "" {
		path, err := search{os.Getenv, installedPackage, initialize}.find(option)
		if err != nil {
			return err
		}
		e.library = path
	}
	e.sessions++
	return nil
}

// exchange gives up the loaded library when another one is asked for.
func (e *environment) exchange(option string) error {
	want := option
	if want == "" {
		want = os.Getenv(LibraryVariable)
	}
	if want == "" {
		return nil
	}
	path, err := resolve(want)
	if err != nil {
		return fmt.Errorf("loading ONNX Runtime: %w", err)
	}
	if sameFile(path, e.library) {
		return nil
	}
	if e.sessions > 0 {
		return fmt.Errorf("loading ONNX Runtime: %s is wanted while models run with %s: one process has one, "+
			"so name the same library for all models, and restart after a change", path, e.library)
	}
	if err := ort.DestroyEnvironment(); err != nil {
		return fmt.Errorf("unloading %s: %w", e.library, err)
	}
	e.library = ""
	return nil
}

// release is the end of a session.
func (e *environment) release() {
	e.mu.Lock()
	e.sessions--
	e.mu.Unlock()
}

func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	infoA, errA := os.Stat(a) //nolint:gosec // the operator names the library
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// initialize loads the library at path and starts its environment.
func initialize(path string) error {
	ort.SetSharedLibraryPath(path)
	// Failures reach us as errors; ONNX Runtime would also print each of
	// them, every cancelled pass included, to standard error.
	err := ort.InitializeEnvironment(ort.WithLogLevelFatal())
	if err != nil {
		return explain(path, err)
	}
	// Only Windows builds have telemetry; the others may refuse the call.
	_ = ort.DisableTelemetry()
	return nil
}

// explain turns the binding's error into one that says what to do.
func explain(path string, err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "setting ORT API base: 2"):
		return fmt.Errorf("%s is older than ONNX Runtime 1.28, the first that has the C API of this build (28): "+
			"install a newer one", path)
	case strings.Contains(text, "looking up OrtGetApiBase"):
		return fmt.Errorf("%s is not the library of ONNX Runtime: it has no OrtGetApiBase", path)
	}
	// "Error loading ONNX shared library "X": REASON": the reason of the
	// loader is what matters, and it usually starts with the path.
	if _, reason, ok := strings.Cut(text, fmt.Sprintf("%q: ", path)); ok {
		text = strings.TrimPrefix(reason, path+": ")
	}
	return fmt.Errorf("%s: %s", path, text)
}
