package onnxruntime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLibraryIsSearchedFromTheExplicitToTheInstalled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the names are those of Linux")
	}
	pkg := t.TempDir()
	installed := filepath.Join(pkg, "capi", "libonnxruntime.so.1.30.0")
	writeFile(t, installed, "")
	writeFile(t, filepath.Join(pkg, "capi", "libonnxruntime_providers_shared.so"), "")

	tests := []struct {
		name        string
		option, env string
		python      string
		loadable    string
		want        string
		tried       []string
		wantErr     []string
	}{
		{
			name: "the option wins", option: "/a/ort.so", env: "/b/ort.so", loadable: "/a/ort.so",
			want: "/a/ort.so", tried: []string{"/a/ort.so"},
		},
		{
			name: "no other replaces what was named", option: "/a/ort.so", loadable: "libonnxruntime.so",
			tried: []string{"/a/ort.so"}, wantErr: []string{"option library", "/a/ort.so"},
		},
		{
			name: "the variable comes next", env: "/b/ort.so", loadable: "/b/ort.so",
			want: "/b/ort.so", tried: []string{"/b/ort.so"},
		},
		{
			name: "a broken variable is an error", env: "/b/ort.so",
			tried: []string{"/b/ort.so"}, wantErr: []string{LibraryVariable, "/b/ort.so"},
		},
		{
			name: "a directory means the library in it", option: pkg, loadable: installed,
			want: installed, tried: []string{installed},
		},
		{name: "a directory without one says so", option: t.TempDir(), wantErr: []string{"no libonnxruntime in"}},
		{
			name: "then the loader's own path", loadable: "libonnxruntime.so.1", python: pkg,
			want: "libonnxruntime.so.1", tried: []string{"libonnxruntime.so", "libonnxruntime.so.1"},
		},
		{
			name: "then Python's package", loadable: installed, python: pkg,
			want: installed, tried: []string{"libonnxruntime.so", "libonnxruntime.so.1", installed},
		},
		{
			name:    "nothing anywhere tells what was tried and what to do",
			tried:   []string{"libonnxruntime.so", "libonnxruntime.so.1"},
			wantErr: []string{"libonnxruntime.so: cannot open", "no package here", "pip install onnxruntime", LibraryVariable},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tried []string
			s := search{
				getenv: func(string) string { return tt.env },
				python: func() (string, error) {
					if tt.python == "" {
						return "", errors.New("no package here")
					}
					return tt.python, nil
				},
				load: func(path string) error {
					tried = append(tried, path)
					if path != tt.loadable {
						return errors.New(path + ": cannot open")
					}
					return nil
				},
			}
			got, err := s.find(tt.option)
			if got != tt.want {
				t.Errorf("found %q, want %q", got, tt.want)
			}
			if !slices.Equal(tried, tt.tried) {
				t.Errorf("tried %q, want %q", tried, tt.tried)
			}
			if (err != nil) != (tt.wantErr != nil) {
				t.Fatalf("error %v, want one: %v", err, tt.wantErr != nil)
			}
			for _, part := range tt.wantErr {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

func TestPythonIsAskedWithoutTrustingIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the interpreters of this test are shell scripts")
	}
	tests := []struct {
		name, script, want, wantErr string
		timeout                     time.Duration
	}{
		{"the last line is the directory", "echo a site hook says hello; echo /pkg/onnxruntime", "/pkg/onnxruntime", "", time.Minute},
		{"no package", "echo", "", "has no onnxruntime package", time.Minute},
		{"a failing interpreter", "exit 3", "", "exit status 3", time.Minute},
		{"one that hangs", "exec sleep 60", "", "killed", time.Second / 2},
		{"one that never stops talking", "exec yes", "", "broken pipe", time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bin := t.TempDir()
			writeFile(t, filepath.Join(bin, "python3"), "#!/bin/sh\n"+tt.script+"\n")
			if err := os.Chmod(filepath.Join(bin, "python3"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":/usr/bin:/bin")
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			defer cancel()
			got, err := pythonPackage(ctx)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.wantErr == "" && err != nil {
				t.Errorf("unexpected error: %v", err)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("got error %v, want one with %q", err, tt.wantErr)
			}
		})
	}
	t.Run("no interpreter at all", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := pythonPackage(t.Context()); err == nil || !strings.Contains(err.Error(), "no Python on PATH") {
			t.Errorf("got error %v", err)
		}
	})
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
