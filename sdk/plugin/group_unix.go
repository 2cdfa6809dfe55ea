//go:build unix

package plugin

import (
	"os"
	"syscall"
)

// endGroup kills the process group, when it is the program's own: what the program has
// started does not outlive it.
func endGroup() {
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(0, syscall.SIGKILL) // this process included
	}
}
