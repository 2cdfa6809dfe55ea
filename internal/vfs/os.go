//go:build unix

package vfs

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
type OS struct{}

func setPanicOnFault(on bool) { debug.SetPanicOnFault(on) }

// OpenFile implements FS.
func (OS) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, OpenError(err, flag)
	}
	return osFile{f}, nil
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements FS.
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// MkdirAll implements FS.
func (OS) MkdirAll(name string, perm os.FileMode) error { return os.MkdirAll(name, perm) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(name)
	return entries, OpenError(err, os.O_RDONLY)
}

// Stat implements FS.
func (OS) Stat(name string) (os.FileInfo, error) { return os.Stat(name) }

// OpenDir implements FS.
func (OS) OpenDir(name string) (Dir, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, OpenError(err, os.O_RDONLY)
	}
	return d, nil
}

// Lock implements FS.
func (OS) Lock(name string) (Lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, OpenError(err, os.O_RDWR|os.O_CREATE)
	}
	if err := retry(func() error { return lock(f) }); err != nil {
		_ = f.Close() // the error is the one to report
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			return nil, fmt.Errorf("%s: %w", name, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return osLock{f}, nil
}

type osLock struct{ *os.File }

// Held implements Lock.
func (l osLock) Held() error {
	at, err := os.Stat(l.Name())
	if err != nil {
		return err
	}
	own, err := l.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(at, own) {
		return &os.PathError{Op: "look for the lock", Path: l.Name(), Err: errors.New("another file is there: was the disk unmounted?")}
	}
	return nil
}

// DiskUsage implements FS.
func (OS) DiskUsage(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &st) }); err != nil {
		return Usage{}, fmt.Errorf("size of the file system of %s: %w", name, err)
	}
	block := int64(st.Bsize) //nolint:unconvert // a uint32 on macOS
	return Usage{Total: int64(st.Blocks) * block, Usable: int64(st.Bavail) * block}, nil
}

// osFile implements File.
type osFile struct{ *os.File }

// Size implements File.
func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// OS implements File.
func (f osFile) OS() *os.File { return f.File }

// Sync implements File.
func (f osFile) Sync() error {
	if err := retry(func() error { return datasync(f.File) }); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// SetModified implements File.
func (f osFile) SetModified(t time.Time) error { return os.Chtimes(f.Name(), time.Time{}, t) }

// Allocate implements File.
func (f osFile) Allocate(off, n int64) error {
	if err := retry(func() error { return allocate(f.File, off, n) }); err != nil {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

// Map implements File.
func (f osFile) Map(off int64, n int, write bool) (Mapping, error) {
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	b, err := unix.Mmap(int(f.Fd()), off, n, prot, unix.MAP_SHARED)
	if err != nil {
		err = &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
		return nil, OpenError(err, os.O_RDONLY) // a mapping changes nothing by being there
	}
	return &osMapping{name: f.Name(), b: b}, nil
}

func retry(f func() error) error {
	for {
		if err := f(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

type osMapping struct {
	name string
	b    []byte
}

// Bytes implements Mapping.
func (m *osMapping) Bytes() []byte { return m.b }

// Store implements Mapping.
func (m *osMapping) Store(off int, p []byte) error {
	if off < 0 || off+len(p) > len(m.b) {
		return fmt.Errorf("store %d bytes at %d into a mapping of %d of %s: %w", len(p), off, len(m.b), m.name, ErrFault)
	}
	if err := store(m.b[off:], p); err != nil {
		return fmt.Errorf("store into %s: %w", m.name, err)
	}
	return nil
}

func store(dst, src []byte) (err error) {
	defer CatchFault(&err, debug.SetPanicOnFault(true))
	copy(dst, src)
	return nil
}

// Close implements Mapping.
func (m *osMapping) Close() error {
	b := m.b
	m.b = nil
	if b == nil {
		return nil
	}
	if err := unix.Munmap(b); err != nil {
		return &os.PathError{Op: "munmap", Path: m.name, Err: err}
	}
	return nil
}
