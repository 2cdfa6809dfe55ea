package vfstest

import (
	"fmt"
	"os"
	"sync"

	"github.com/millrace/millrace/internal/vfs"
)

// Kind is a kind of call.
type Kind uint8

// The calls of a file system, of a file and of a mapping.
const (
	OpenFile Kind = iota
	Remove
	RemoveAll
	Rename
	MkdirAll
	ReadDir
	Stat
	OpenDir
	SyncDir // of a directory that was opened
	Lock
	DiskUsage
	ReadAt
	WriteAt
	Close
	Size
	Truncate
	Allocate
	Sync
	Map
	Store
)

// Op is one call.
type Op struct {
	Kind Kind
	Name string // of the file; the new one of a Rename
	Seq  int64  // how many calls there were before
	Flag int    // of OpenFile
	Off  int64  // of the calls that have one; the size of a Truncate
	Len  int64  // bytes
}

// Writes reports whether the call changes something on the disk.
func (o Op) Writes() bool {
	switch o.Kind {
	case OpenFile:
		return o.Flag&(os.O_CREATE|os.O_TRUNC) != 0
	case Remove, RemoveAll, Rename, MkdirAll, SyncDir, WriteAt, Truncate, Allocate, Sync, Store:
		return true
	default:
		return false
	}
}

// Fault is how a call fails; the zero value lets it pass.
type Fault struct {
	Err error
	// After lets the call do its work and fail then.
	After bool
	// Bytes is how much of a WriteAt or a Store is done first.
	Bytes int
	// Drop lets a Sync lose what it should have written, if the file system below can
	// do that.
	Drop bool
}

// Faults is a file system whose calls fail at will. It implements vfs.FS.
type Faults struct {
	fs vfs.FS

	mu     sync.Mutex
	seq    int64
	decide func(Op) Fault
}

// NewFaults puts faults in front of a file system. The function decides for each
// call; it is called by one goroutine at a time, and must not call the file
// system. Nil lets everything pass.
func NewFaults(fs vfs.FS, decide func(Op) Fault) *Faults { return &Faults{fs: fs, decide: decide} }

// Decide replaces the function.
func (f *Faults) Decide(decide func(Op) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.decide = decide
}

// Calls is how many calls there were.
func (f *Faults) Calls() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}

// next numbers a call and asks for its fault.
func (f *Faults) next(op Op) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	op.Seq = f.seq
	f.seq++
	if f.decide == nil {
		return Fault{}
	}
	return f.decide(op)
}

// call does the work unless the fault keeps it from that.
func (f *Faults) call(op Op, work func() error) error {
	return f.next(op).around(op.Name, work)
}

// open is call for one that opens something: its fault is marked as the operating
// system's is, unless the work was done.
func (f *Faults) open(op Op, work func() error) error {
	t := f.next(op)
	if t.Err != nil && !t.After {
		return vfs.OpenError(t.around(op.Name, work), op.Flag)
	}
	return t.around(op.Name, work)
}

func (t Fault) around(name string, work func() error) error {
	if t.Err != nil && !t.After {
		return fmt.Errorf("%s: %w", name, t.Err)
	}
	if err := work(); err != nil {
		return err
	}
	if t.Err != nil {
		return fmt.Errorf("%s: %w", name, t.Err)
	}
	return nil
}

// OpenFile implements vfs.FS.
func (f *Faults) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	var file vfs.File
	err := f.open(Op{Kind: OpenFile, Name: name, Flag: flag}, func() (err error) {
		file, err = f.fs.OpenFile(name, flag, perm)
		return err
	})
	if err != nil {
		if file != nil {
			_ = file.Close() // the caller does not get it
		}
		return nil, err
	}
	return &faultyFile{file, f, name}, nil
}

// Remove implements vfs.FS.
func (f *Faults) Remove(name string) error {
	return f.call(Op{Kind: Remove, Name: name}, func() error { return f.fs.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *Faults) RemoveAll(name string) error {
	return f.call(Op{Kind: RemoveAll, Name: name}, func() error { return f.fs.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *Faults) Rename(from, to string) error {
	return f.call(Op{Kind: Rename, Name: to}, func() error { return f.fs.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (f *Faults) MkdirAll(name string, perm os.FileMode) error {
	return f.call(Op{Kind: MkdirAll, Name: name}, func() error { return f.fs.MkdirAll(name, perm) })
}

// ReadDir implements vfs.FS.
func (f *Faults) ReadDir(name string) (entries []os.DirEntry, err error) {
	err = f.open(Op{Kind: ReadDir, Name: name}, func() error {
		entries, err = f.fs.ReadDir(name)
		return err
	})
	return entries, err
}

// Stat implements vfs.FS.
func (f *Faults) Stat(name string) (info os.FileInfo, err error) {
	err = f.call(Op{Kind: Stat, Name: name}, func() error {
		info, err = f.fs.Stat(name)
		return err
	})
	return info, err
}

// OpenDir implements vfs.FS.
func (f *Faults) OpenDir(name string) (d vfs.Dir, err error) {
	err = f.open(Op{Kind: OpenDir, Name: name}, func() error {
		d, err = f.fs.OpenDir(name)
		return err
	})
	if err != nil {
		if d != nil {
			_ = d.Close() // the caller does not get it
		}
		return nil, err
	}
	return &faultyDir{d, f, name}, nil
}

// faultyDir implements vfs.Dir.
type faultyDir struct {
	vfs.Dir
	fs   *Faults
	name string
}

// Sync implements vfs.Dir.
func (d *faultyDir) Sync() error {
	return d.fs.call(Op{Kind: SyncDir, Name: d.name}, d.Dir.Sync)
}

// Lock implements vfs.FS.
func (f *Faults) Lock(name string) (lock vfs.Lock, err error) {
	err = f.open(Op{Kind: Lock, Name: name, Flag: os.O_CREATE}, func() error {
		lock, err = f.fs.Lock(name)
		return err
	})
	if err != nil && lock != nil {
		_ = lock.Close() // the caller does not get it
		lock = nil
	}
	return lock, err
}

// DiskUsage implements vfs.FS.
func (f *Faults) DiskUsage(name string) (u vfs.Usage, err error) {
	err = f.call(Op{Kind: DiskUsage, Name: name}, func() error {
		u, err = f.fs.DiskUsage(name)
		return err
	})
	return u, err
}

// faultyFile implements vfs.File.
type faultyFile struct {
	vfs.File
	fs   *Faults
	name string
}

// ReadAt implements io.ReaderAt.
func (f *faultyFile) ReadAt(p []byte, off int64) (n int, err error) {
	t := f.fs.next(Op{Kind: ReadAt, Name: f.name, Off: off, Len: int64(len(p))})
	if t.Err != nil {
		return 0, fmt.Errorf("%s: %w", f.name, t.Err)
	}
	return f.File.ReadAt(p, off)
}

// WriteAt implements io.WriterAt.
func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	t := f.fs.next(Op{Kind: WriteAt, Name: f.name, Off: off, Len: int64(len(p))})
	if t.Err == nil {
		return f.File.WriteAt(p, off)
	}
	if !t.After {
		p = p[:min(t.Bytes, len(p))]
	}
	n, err := f.File.WriteAt(p, off)
	if err == nil {
		err = fmt.Errorf("%s: %w", f.name, t.Err)
	}
	return n, err
}

// Close implements io.Closer. The file is closed even where that fails.
func (f *faultyFile) Close() error {
	t := f.fs.next(Op{Kind: Close, Name: f.name})
	t.After = true
	return t.around(f.name, f.File.Close)
}

// Size implements vfs.File.
func (f *faultyFile) Size() (size int64, err error) {
	err = f.fs.call(Op{Kind: Size, Name: f.name}, func() error {
		size, err = f.File.Size()
		return err
	})
	return size, err
}

// Truncate implements vfs.File.
func (f *faultyFile) Truncate(size int64) error {
	return f.fs.call(Op{Kind: Truncate, Name: f.name, Off: size}, func() error { return f.File.Truncate(size) })
}

// Allocate implements vfs.File.
func (f *faultyFile) Allocate(off, n int64) error {
	return f.fs.call(Op{Kind: Allocate, Name: f.name, Off: off, Len: n}, func() error { return f.File.Allocate(off, n) })
}

// Sync implements vfs.File.
func (f *faultyFile) Sync() error {
	t := f.fs.next(Op{Kind: Sync, Name: f.name})
	if d, ok := f.File.(interface{ FailSync() }); ok && t.Err != nil && t.Drop {
		d.FailSync()
	}
	return t.around(f.name, f.File.Sync)
}

// Map implements vfs.File.
func (f *faultyFile) Map(off int64, n int, write bool) (m vfs.Mapping, err error) {
	err = f.fs.open(Op{Kind: Map, Name: f.name, Off: off, Len: int64(n)}, func() error {
		m, err = f.File.Map(off, n, write)
		return err
	})
	if err != nil {
		if m != nil {
			err = fmt.Errorf("%w, %w", err, m.Close())
		}
		return nil, err
	}
	return &faultyMapping{m, f.fs, f.name, off}, nil
}

// faultyMapping implements vfs.Mapping.
type faultyMapping struct {
	vfs.Mapping
	fs   *Faults
	name string
	off  int64
}

// Store implements vfs.Mapping. A fault wraps vfs.ErrFault, whatever was asked for.
func (m *faultyMapping) Store(off int, p []byte) error {
	t := m.fs.next(Op{Kind: Store, Name: m.name, Off: m.off + int64(off), Len: int64(len(p))})
	if t.Err == nil {
		return m.Mapping.Store(off, p)
	}
	if !t.After {
		p = p[:min(t.Bytes, len(p))]
	}
	if err := m.Mapping.Store(off, p); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w: %w", m.name, vfs.ErrFault, t.Err)
}
