//go:build unix && !linux

package vfs

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// datasync is the full sync; on macOS it also empties the disk's own cache.
func datasync(f *os.File) error { return f.Sync() }

// allocate is not supported: appends go by pwrite, which needs no reservation.
func allocate(*os.File, int64, int64) error { return syscall.ENOTSUP }
