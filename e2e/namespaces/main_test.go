//go:build linux

// Package namespaces runs the deployments of examples/ on hosts that are network
// namespaces, with cables that can be pulled.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/caddy-infer/caddy-infer/internal/gateway"
)

// The tests run in a process whose network, mounts and processes are its own:
// the main process starts itself again that way. Whatever the tests leave
// behind, running or not, ends with it.
const insideKey = "CADDY_INFER_TEST_INSIDE" // the directory of the binaries

var (
	binaries gateway.Binaries
	missing  error // why there are no namespaces
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if dir := os.Getenv(insideKey); dir != "" {
			binaries = gateway.Binaries{Caddy: filepath.Join(dir, "caddy"), Node: filepath.Join(dir, "simnode")}
			if err := furnish(); err != nil {
				fmt.Fprintln(os.Stderr, "in new namespaces:", err)
				return 1
			}
			return m.Run()
		}
		if missing = available(); missing != nil {
			return m.Run() // the tests say why they are skipped
		}
		code, err := again()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// inside is a command that runs in new network, mount, process and host name
// namespaces, as root, and ends with this process.
func inside(name string, args ...string) *exec.Cmd {
	enter := []string{"unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child"}
	if os.Geteuid() != 0 {
		enter = append([]string{"sudo", "--non-interactive", "env", insideKey + "=" + os.Getenv(insideKey)}, enter...)
	}
	cmd := exec.Command(enter[0], append(append(enter[1:], name), args...)...) //nolint:gosec // the tests' own
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return cmd
}

// available tells what the tests lack on this machine.
func available() error {
	for program, pkg := range map[string]string{
		"ip": "iproute2", "keepalived": "keepalived", "curl": "curl", "nsenter": "util-linux", "unshare": "util-linux", "systemd-analyze": "systemd",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: install Debian's %s (and have /usr/sbin in PATH)", err, pkg)
		}
	}
	if out, err := inside("true").CombinedOutput(); err != nil {
		return fmt.Errorf("new namespaces need root (CAP_SYS_ADMIN) or a sudo without a password: %w: %s", err, out)
	}
	return nil
}

// again runs the tests in namespaces of their own and returns their exit status.
func again() (code int, err error) {
	dir, err := os.MkdirTemp("", "namespaces")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if _, err := gateway.Build(context.Background(), dir); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	runtime.LockOSThread() // the child ends with the thread that made it
	if err := os.Setenv(insideKey, dir); err != nil {
		return 0, err
	}
	cmd := inside(self, os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	var failed *exec.ExitError
	if err := cmd.Run(); errors.As(err, &failed) {
		return max(failed.ExitCode(), 1), nil
	} else if err != nil {
		return 0, fmt.Errorf("running the tests in new namespaces: %w", err)
	}
	return 0, nil
}

// furnish makes the new namespaces usable, and keeps what happens in them from
// the rest of the machine.
func furnish() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil { // of keepalived and ip
		return fmt.Errorf("mounting /run: %w", err)
	}
	if err := do("ip", "link", "set", "lo", "up"); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}

// do runs a command.
func do(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// must runs a command that cannot fail.
func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if err := do(name, args...); err != nil {
		t.Fatal(err)
	}
}
