//go:build unix

package plugintest

import "syscall"

func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

func pause(pid int) error { return syscall.Kill(pid, syscall.SIGSTOP) }

// signalled reports whether a process can still be signalled.
func signalled(pid int) bool { return syscall.Kill(pid, 0) == nil }
