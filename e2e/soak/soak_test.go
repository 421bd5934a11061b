//go:build linux

// Package soak tests that the gateway outlives whatever happens to its nodes, its
// models and its configuration, for half a minute: go run ./bench/soak and go run
// ./bench/modelswap do so for as long as one likes.
package soak

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNothingIsLostInHalfAMinuteOfTrouble(t *testing.T) {
	// Other tests run beside it: the load is low, and only a run in which even
	// sending was late may be repeated.
	run(t, "soak", "-duration=25s", "-seed=1", "-rate=60", "-attempts=3")
}

func TestNothingIsLostWhileModelsChange(t *testing.T) {
	run(t, "modelswap", "-duration=10s", "-clients=6", "-texts=500", "-cache=100")
}

// run runs a program of bench/ that finds out by itself what went wrong.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), name)
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/caddy-infer/caddy-infer/bench/"+name).CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it stops what it started
	cmd.WaitDelay = 30 * time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "Nothing lost, nothing mixed up, nothing left behind.") {
		t.Error("it does not say that nothing was lost")
	}
}
