//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running server with its children, in a process group of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func start(command []string) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // running the given command is its purpose
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // a server that was told to end may end with any status
		close(p.done)
	}()
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) stop() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // children that outlived it
}

// consumption is CPU time in seconds and memory in MB, as /proc tells them.
type consumption struct {
	server, self float64 // CPU time of the server's processes and of this one
	busy, total  float64 // CPU time of the whole machine: used, and there was
	rss, anon    float64 // resident memory, and that of it which is no file's
}

// ticks per second in /proc: fixed for user space on every Linux architecture.
const ticks = 100

// usage reads what /proc has. Elsewhere than on Linux everything is 0.
func usage(p *process) (c consumption) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state ppid pgrp … utime stime are the fields 14 and 15; rss, in pages, is 24.
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 22 {
			continue
		}
		group, pid := fields[2], filepath.Base(filepath.Dir(file))
		cpu := (number(fields[11]) + number(fields[12])) / ticks
		switch {
		case group == strconv.Itoa(p.cmd.Process.Pid):
			c.server += cpu
			c.rss += number(fields[21]) * float64(os.Getpagesize()) / (1 << 20)
			c.anon += anonymous(filepath.Dir(file))
		case pid == strconv.Itoa(os.Getpid()):
			c.self += cpu
		}
	}
	text, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(first) {
		if i < 1 || i > 8 { // after these come guests, which user time includes
			continue
		}
		c.total += number(f) / ticks
		if i != 4 && i != 5 { // idle, waiting for a disk
			c.busy += number(f) / ticks
		}
	}
	return c
}

func number(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

// anonymous is a process's resident memory, in MB, that no file backs.
func anonymous(proc string) float64 {
	text, _ := os.ReadFile(filepath.Join(proc, "status"))
	_, rest, _ := strings.Cut(string(text), "\nRssAnon:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	return number(fields[0]) / 1024
}
