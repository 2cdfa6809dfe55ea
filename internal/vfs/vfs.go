// Package vfs is the file system as the storage on disk uses it: files that are
// read and written at positions, preallocated, mapped and synced, directories that
// are synced, and a lock. OS is the real one. Everything that reaches a disk goes
// through these interfaces, stores through a mapping included, so that a test can
// put a file system in between that fails or loses what was not synced: see
// package vfstest.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

var (
	// ErrLocked says that another process, or another Lock in this one, holds the
	// lock.
	ErrLocked = errors.New("locked")
	// ErrFault says that the memory of a mapping could not be reached, because the
	// disk failed or is full, or the file has become shorter.
	ErrFault = errors.New("a mapped file could not be reached")
)

// FS is a file system. Names are paths as in package os. Safe for concurrent use.
type FS interface {
	// OpenFile opens a file; flag is that of os.OpenFile, without os.O_APPEND.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a directory with all that is in it; one that does not exist
	// is no error.
	RemoveAll(name string) error
	// Rename moves a file or directory, replacing a file that is there.
	Rename(from, to string) error
	// MkdirAll makes a directory and its parents.
	MkdirAll(name string, perm os.FileMode) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]os.DirEntry, error)
	// Stat describes a file.
	Stat(name string) (os.FileInfo, error)
	// OpenDir opens a directory for its entries to be synced.
	OpenDir(name string) (Dir, error)
	// Lock makes a lock file where there is none and locks it against others until
	// the answer is closed, or the process ends. It does not wait: ErrLocked.
	Lock(name string) (Lock, error)
	// DiskUsage is about the file system that holds a directory.
	DiskUsage(name string) (Usage, error)
}

// Dir is an open directory. Safe for concurrent use, but for Close.
type Dir interface {
	io.Closer
	// Sync makes the entries durable: files made, renamed and removed.
	Sync() error
}

// Lock is a lock file that is locked. Closing it lets others have it.
type Lock interface {
	io.Closer
	// Held reports nil as long as the name leads to the file that is locked. It does
	// not once the file system was unmounted, or its directory replaced.
	Held() error
}

// Usage is the size of a file system and what is left of it for this user, in
// bytes.
type Usage struct {
	Total, Usable int64
}

// File is an open file. Safe for concurrent use, but for Close.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is in bytes.
	Size() (int64, error)
	// Truncate makes the file shorter or, with a hole, longer.
	Truncate(size int64) error
	// Allocate reserves n bytes of disk from off on and makes the file as long as
	// that if it is shorter; new bytes read as zeros. An error that is
	// errors.ErrUnsupported says that the file system cannot.
	Allocate(off, n int64) error
	// Sync makes the file's bytes and size durable.
	Sync() error
	// SetModified sets the time of the last change that Stat answers, until the next
	// change; a zero t leaves it. The file must still have the name that it was opened
	// with. A power cut may undo it.
	SetModified(t time.Time) error
	// Map maps n bytes from off, a multiple of PageSize. The range may end beyond the
	// file, but only what the file has may be touched. The mapping does not need the
	// file to stay open.
	Map(off int64, n int, write bool) (Mapping, error)
	// OS is the file for sendfile; nil when there is none behind.
	OS() *os.File
}

// Mapping is a part of a file in memory. Stores need not be durable before the
// file is synced, and may be at any time.
type Mapping interface {
	// Bytes is the mapped range, for reading. Touching a part that cannot be read
	// panics with a fault: see CatchFault.
	Bytes() []byte
	// Store copies p to off, seen by every reader of the file at once. A fault is an
	// error that wraps ErrFault; how much of p was stored is then unknown.
	Store(off int, p []byte) error
	// Close unmaps. Nothing may use Bytes afterwards.
	Close() error
}

// PageSize is what offsets of mappings are multiples of, in bytes.
func PageSize() int64 { return int64(os.Getpagesize()) }

// CatchFault turns the fault of a mapping into an error that wraps ErrFault. Defer
// it in the function that touches the mapping:
//
//	defer vfs.CatchFault(&err, debug.SetPanicOnFault(true))
func CatchFault(err *error, before bool) {
	setPanicOnFault(before)
	r := recover()
	if r == nil {
		return
	}
	if fault, ok := r.(interface{ Addr() uintptr }); ok {
		*err = fmt.Errorf("%w (address %#x)", ErrFault, fault.Addr())
		return
	}
	panic(r)
}

// Open opens a file for reading.
func Open(fs FS, name string) (File, error) { return fs.OpenFile(name, os.O_RDONLY, 0) }

// ReadFile reads a whole file.
func ReadFile(fs FS, name string) ([]byte, error) {
	f, err := Open(fs, name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // was only read
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return data[:n], nil
}

// TmpSuffix is appended to the name of a file while WriteFile writes it.
const TmpSuffix = ".tmp"

// SyncDir opens a directory and makes its entries durable. Where it could not be
// opened for want of descriptors the error is marked: see NotTriedError.
func SyncDir(fs FS, name string) error {
	d, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// WriteFile replaces a file durably and atomically: after a crash the file has
// the old contents or the new ones. Two calls for one name must not overlap. It has
// all descriptors before it changes anything: where they are wanting the file is as
// it was, and the error is marked.
func WriteFile(fs FS, name string, data []byte) error {
	d, err := fs.OpenDir(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(replace(fs, d, name, data), d.Close())
}

func replace(fs FS, dir Dir, name string, data []byte) error {
	tmp := name + TmpSuffix
	if err := writeSynced(fs, tmp, data); err != nil {
		_ = fs.Remove(tmp) // the error is the one to report
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return dir.Sync()
}

func writeSynced(fs FS, name string, data []byte) error {
	f, err := fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(data, 0); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
