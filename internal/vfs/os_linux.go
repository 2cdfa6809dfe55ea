package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock takes a lock of the open file description (F_OFD_SETLK). Unlike flock's it
// also excludes a process that uses POSIX record locks, as Java's FileLock does:
// Kafka and Millrace cannot share a directory by mistake.
func lock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}

func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

func allocate(f *os.File, off, n int64) error { return unix.Fallocate(int(f.Fd()), 0, off, n) }
