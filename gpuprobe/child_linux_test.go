package gpuprobe

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process that is killed, or that ends before a source has been closed,
// leaves no nvidia-smi behind.
func TestNvidiaSMIEndsWithTheProcess(t *testing.T) {
	if program := os.Getenv("GPUPROBE_TEST_SMI"); program != "" { // the process that ends
		if _, err := read(t, Config{Kind: "nvidia_smi", Address: program}); err != nil {
			t.Fatal(err)
		}
		source, err := Open(Config{Kind: "nvidia_smi", Address: program})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := source.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		os.Exit(0)
	}
	pids := filepath.Join(t.TempDir(), "pids")
	program := fakeSMI(t, "trap '' PIPE\necho $$ >> "+pids+"\nwhile :; do echo '"+smiRow0+"'; sleep 0.1; done")
	cmd := exec.Command(os.Args[0], "-test.run", "^TestNvidiaSMIEndsWithTheProcess$")
	cmd.Env = append(os.Environ(), "GPUPROBE_TEST_SMI="+program)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.FieldsSeq(string(text)) {
		var pid int
		if _, err := fmt.Sscan(line, &pid); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("child %d is still there", pid)
			}
		}
	}
}

// alive tells a running process from one that nobody has waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
