package gpuprobe

import (
	"os/exec"
	"runtime"
	"syscall"
)

// endWithUs makes the kernel kill a child when this process ends in whatever
// way: nvidia-smi --loop-ms would write into the void for ever where SIGPIPE is
// ignored. The kernel goes by the thread that starts the child, so that thread
// must live until the child has been waited for, when release is called.
func endWithUs(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return runtime.UnlockOSThread
}
