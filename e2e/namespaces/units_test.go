//go:build linux

package namespaces

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// systemd itself finds no fault in the units, beside Debian's of keepalived, and
// calls the gateway's well protected.
func TestUnitsAreInOrder(t *testing.T) {
	if missing != nil {
		t.Skip(missing)
	}
	const installed, programs = "/etc/systemd/system", "/usr/local/bin"
	for _, dir := range []string{installed, programs} { // this process's alone
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, "cp", "--recursive", example(t, "dual-active", "systemd")+"/.", installed)
	must(t, "cp", binaries.Caddy, filepath.Join(programs, "caddy-infer"))

	units, err := os.ReadDir(installed)
	if err != nil {
		t.Fatal(err)
	}
	verify := []string{"verify", "keepalived.service"}
	for _, u := range units {
		if !u.IsDir() {
			verify = append(verify, u.Name())
		}
	}
	if out, err := exec.Command("systemd-analyze", verify...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
	// In tenths of its scale from 0, safe, to 10.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=25", "caddy-infer.service").CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}
