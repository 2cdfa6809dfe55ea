package vfstest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/vfs"
)

// ErrPower is what every call answers once the power is cut.
var ErrPower = errors.New("the power is cut")

// Options are what a Disk is made with.
type Options struct {
	// Rand decides what the kernel writes back unasked. Without one nothing reaches
	// the medium that is not synced.
	Rand *rand.Rand
	// Capacity is the size of the disk in bytes; 1 TiB by default. Lengths of files
	// count, holes included.
	Capacity int64
	// MaxOpen is how many files may be open; no limit by default.
	MaxOpen int
	// Unordered lets operations on a directory reach the medium in any order, but for
	// those on the same name.
	Unordered bool
}

// Disk is a file system in memory; see the package for what becomes of it in a
// power cut. It implements vfs.FS and is safe for concurrent use.
type Disk struct {
	mu       sync.Mutex
	o        Options
	root     *node
	dead     bool
	used     int64
	open     int
	mappings int
	locks    map[*node]bool
	clock    int64
}

// NewDisk is an empty disk.
func NewDisk(o Options) *Disk {
	if o.Capacity == 0 {
		o.Capacity = 1 << 40
	}
	return &Disk{o: o, root: newDir(), locks: map[*node]bool{}}
}

// Crash cuts the power: every call to d and to its files fails from now on, and
// the answer is the disk as it is found when the power is back.
func (d *Disk) Crash(rnd *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	n := &Disk{o: d.o, locks: map[*node]bool{}, clock: d.clock}
	n.root = d.root.crash(rnd, d.o.Unordered)
	n.used = n.root.bytes()
	return n
}

// Kill ends the process but not the machine: every call to d and to its files
// fails from now on, locks are gone, and the answer has everything that was
// written, still waiting to be synced.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	d.root.forgetMappings()
	n := &Disk{o: d.o, root: d.root, locks: map[*node]bool{}, clock: d.clock}
	n.used = n.root.bytes() // files removed while open are gone
	return n
}

// SetCapacity changes the size of the disk, in bytes; it may be less than what is
// used.
func (d *Disk) SetCapacity(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.Capacity = n
}

// SetMaxOpen changes how many files may be open; 0 is no limit.
func (d *Disk) SetMaxOpen(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.MaxOpen = n
}

// Open is how many files and mappings are open.
func (d *Disk) Open() (files, mappings int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open, d.mappings
}

// enter takes the lock, which the caller lets go, unless the power is cut.
func (d *Disk) enter() error {
	d.mu.Lock()
	if d.dead {
		d.mu.Unlock()
		return ErrPower
	}
	d.clock++
	return nil
}

// chance is true once in n times, when the disk does something unasked.
func (d *Disk) chance(n int) bool { return d.o.Rand != nil && d.o.Rand.IntN(n) == 0 }

func split(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// look finds a node.
func (d *Disk) look(name string) (*node, error) {
	n := d.root
	for _, part := range split(name) {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parent finds the directory of a name, and its last part.
func (d *Disk) parent(name string) (*node, string, error) {
	parts := split(name)
	if len(parts) == 0 {
		return nil, "", syscall.EINVAL
	}
	n, err := d.look(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !n.dir {
		return nil, "", syscall.ENOTDIR
	}
	return n, parts[len(parts)-1], nil
}

// OpenFile implements vfs.FS.
func (d *Disk) OpenFile(name string, flag int, _ os.FileMode) (vfs.File, error) {
	if err := d.enter(); err != nil {
		return nil, pathError("open", name, err)
	}
	defer d.mu.Unlock()
	f, err := d.openFile(name, flag)
	if err != nil {
		return nil, vfs.OpenError(pathError("open", name, err), flag)
	}
	return f, nil
}

func (d *Disk) openFile(name string, flag int) (*file, error) {
	if d.o.MaxOpen > 0 && d.open >= d.o.MaxOpen {
		return nil, syscall.EMFILE
	}
	dir, last, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	n := dir.entries[last]
	writable := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = newFile()
		d.change(dir, dirOp{to: last, node: n})
	case flag&os.O_EXCL != 0 && flag&os.O_CREATE != 0:
		return nil, syscall.EEXIST
	case n.dir && writable:
		return nil, syscall.EISDIR
	case flag&os.O_TRUNC != 0:
		d.resize(n, 0)
	}
	d.open++
	n.refs++
	return &file{d: d, n: n, name: name, writable: writable}, nil
}

// change applies an operation to a directory, and lets some of what waits reach
// the medium.
func (d *Disk) change(dir *node, op dirOp) {
	if gone := op.apply(dir.entries); gone != nil {
		d.unlinked(gone)
	}
	dir.mtime = d.now()
	dir.pending = append(dir.pending, op)
	if d.chance(8) {
		dir.writeBack(1 + d.o.Rand.IntN(len(dir.pending)))
	}
}

// unlinked gives the space of a file back that has no name any more, unless it is
// open still.
func (d *Disk) unlinked(n *node) {
	n.unlinked = true
	if n.refs == 0 && !n.dir {
		d.used -= int64(len(n.data))
	}
}

func (d *Disk) now() time.Time { return time.UnixMilli(1_700_000_000_000 + d.clock) }

// Remove implements vfs.FS.
func (d *Disk) Remove(name string) error {
	if err := d.enter(); err != nil {
		return pathError("remove", name, err)
	}
	defer d.mu.Unlock()
	dir, last, err := d.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := dir.entries[last]
	switch {
	case n == nil:
		return pathError("remove", name, syscall.ENOENT)
	case len(n.entries) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	d.change(dir, dirOp{from: last})
	return nil
}

// RemoveAll implements vfs.FS.
func (d *Disk) RemoveAll(name string) error {
	if err := d.enter(); err != nil {
		return pathError("remove", name, err)
	}
	defer d.mu.Unlock()
	dir, last, err := d.parent(name)
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	if dir.entries[last] != nil {
		d.removeAll(dir, last)
	}
	return nil
}

func (d *Disk) removeAll(dir *node, name string) {
	n := dir.entries[name]
	for _, child := range slices.Sorted(maps.Keys(n.entries)) {
		d.removeAll(n, child)
	}
	d.change(dir, dirOp{from: name})
}

// Rename implements vfs.FS, within a directory.
func (d *Disk) Rename(from, to string) error {
	fail := func(err error) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: err} }
	if err := d.enter(); err != nil {
		return fail(err)
	}
	defer d.mu.Unlock()
	dir, old, err := d.parent(from)
	if err != nil {
		return fail(err)
	}
	target, last, err := d.parent(to)
	if err != nil {
		return fail(err)
	}
	n, other := dir.entries[old], target.entries[last]
	switch {
	case n == nil:
		return fail(syscall.ENOENT)
	case dir != target:
		return fail(syscall.EXDEV)
	case other == n:
		return nil
	case other != nil && n.dir != other.dir:
		return fail(syscall.ENOTDIR)
	case other != nil && len(other.entries) > 0:
		return fail(syscall.ENOTEMPTY)
	}
	d.change(dir, dirOp{from: old, to: last, node: n})
	return nil
}

// MkdirAll implements vfs.FS.
func (d *Disk) MkdirAll(name string, _ os.FileMode) error {
	if err := d.enter(); err != nil {
		return pathError("mkdir", name, err)
	}
	defer d.mu.Unlock()
	n := d.root
	for _, part := range split(name) {
		next := n.entries[part]
		if next == nil {
			next = newDir()
			d.change(n, dirOp{to: part, node: next})
		}
		if n = next; !n.dir {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
	}
	return nil
}

// ReadDir implements vfs.FS.
func (d *Disk) ReadDir(name string) ([]os.DirEntry, error) {
	if err := d.enter(); err != nil {
		return nil, pathError("open", name, err)
	}
	defer d.mu.Unlock()
	n, err := d.look(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err == nil && d.o.MaxOpen > 0 && d.open >= d.o.MaxOpen {
		err = syscall.EMFILE
	}
	if err != nil {
		return nil, vfs.OpenError(pathError("open", name, err), os.O_RDONLY)
	}
	out := make([]os.DirEntry, 0, len(n.entries))
	for _, child := range slices.Sorted(maps.Keys(n.entries)) {
		out = append(out, fs.FileInfoToDirEntry(n.entries[child].info(child)))
	}
	return out, nil
}

// Stat implements vfs.FS.
func (d *Disk) Stat(name string) (os.FileInfo, error) {
	if err := d.enter(); err != nil {
		return nil, pathError("stat", name, err)
	}
	defer d.mu.Unlock()
	n, err := d.look(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(filepath.Base(name)), nil
}

// OpenDir implements vfs.FS.
func (d *Disk) OpenDir(name string) (vfs.Dir, error) {
	if err := d.enter(); err != nil {
		return nil, pathError("open", name, err)
	}
	defer d.mu.Unlock()
	n, err := d.look(name)
	if err == nil && !n.dir {
		err = syscall.ENOTDIR
	}
	if err == nil && d.o.MaxOpen > 0 && d.open >= d.o.MaxOpen {
		err = syscall.EMFILE
	}
	if err != nil {
		return nil, vfs.OpenError(pathError("open", name, err), os.O_RDONLY)
	}
	d.open++
	n.refs++
	return openDir{&file{d: d, n: n, name: name}}, nil
}

// openDir implements vfs.Dir.
type openDir struct{ f *file }

// Sync implements vfs.Dir.
func (o openDir) Sync() error {
	if err := o.f.enter("sync", false); err != nil {
		return err
	}
	defer o.f.d.mu.Unlock()
	o.f.n.writeBack(len(o.f.n.pending))
	return nil
}

// Close implements io.Closer.
func (o openDir) Close() error { return o.f.Close() }

// Lock implements vfs.FS.
func (d *Disk) Lock(name string) (vfs.Lock, error) {
	if err := d.enter(); err != nil {
		return nil, pathError("lock", name, err)
	}
	defer d.mu.Unlock()
	f, err := d.openFile(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, vfs.OpenError(pathError("lock", name, err), os.O_RDWR|os.O_CREATE)
	}
	if d.locks[f.n] {
		d.closed(f)
		return nil, pathError("lock", name, vfs.ErrLocked)
	}
	d.locks[f.n] = true
	f.lock = true
	return heldLock{f, name}, nil
}

type heldLock struct {
	*file
	name string
}

// Held implements vfs.Lock.
func (l heldLock) Held() error {
	if err := l.d.enter(); err != nil {
		return pathError("stat", l.name, err)
	}
	defer l.d.mu.Unlock()
	n, err := l.d.look(l.name)
	if err == nil && n != l.n {
		err = errors.New("another file is there")
	}
	if err != nil {
		return pathError("stat", l.name, err)
	}
	return nil
}

// DiskUsage implements vfs.FS.
func (d *Disk) DiskUsage(name string) (vfs.Usage, error) {
	if err := d.enter(); err != nil {
		return vfs.Usage{}, pathError("statfs", name, err)
	}
	defer d.mu.Unlock()
	if _, err := d.look(name); err != nil {
		return vfs.Usage{}, pathError("statfs", name, err)
	}
	return vfs.Usage{Total: d.o.Capacity, Usable: max(0, d.o.Capacity-d.used)}, nil
}
