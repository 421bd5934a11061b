//go:build linux

// Package soak tests that the gateway outlives whatever happens to its nodes and
// its configuration, for half a minute: go run ./bench/soak does so for as long
// as one likes.
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
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), "soak")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/caddy-infer/caddy-infer/bench/soak").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	// Other tests run beside it: the load is low, and only a run in which even
	// sending was late may be repeated.
	cmd := exec.CommandContext(ctx, program, "-duration=25s", "-seed=1", "-rate=60", "-attempts=3")
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
