package vfstest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/vfs"
)

// file implements vfs.File.
type file struct {
	d        *Disk
	n        *node
	name     string
	writable bool
	lock     bool
	done     bool
}

// enter takes the disk's lock for a call on an open file.
func (f *file) enter(op string, write bool) error {
	if err := f.d.enter(); err != nil {
		return pathError(op, f.name, err)
	}
	switch {
	case f.done:
		f.d.mu.Unlock()
		return pathError(op, f.name, os.ErrClosed)
	case write && !f.writable:
		f.d.mu.Unlock()
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.enter("read", false); err != nil {
		return 0, err
	}
	defer f.d.mu.Unlock()
	if off < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	n := copy(p, f.n.data[min(off, int64(len(f.n.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt. On a full disk as much is written as there is
// room for.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.enter("write", true); err != nil {
		return 0, err
	}
	defer f.d.mu.Unlock()
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	size, full := int64(len(f.n.data)), error(nil)
	if grow := off + int64(len(p)) - size; grow > 0 {
		if room := max(0, f.d.o.Capacity-f.d.used); grow > room {
			p, full = p[:max(0, int64(len(p))-(grow-room))], syscall.ENOSPC
		}
		if len(p) > 0 {
			f.d.resize(f.n, off+int64(len(p)))
		}
	}
	if len(p) > 0 {
		f.n.put(p, off)
		f.d.touched(f.n)
	}
	if full != nil {
		return len(p), pathError("write", f.name, full)
	}
	return len(p), nil
}

// resize changes the size of a file; there is room.
func (d *Disk) resize(n *node, size int64) {
	d.used += size - int64(len(n.data))
	n.setSize(size)
	d.touched(n)
}

// touched notes a change, and lets some of the file reach the medium.
func (d *Disk) touched(n *node) {
	n.mtime = d.now()
	if d.chance(8) {
		n.someBack(d.o.Rand)
	}
}

// Close implements io.Closer.
func (f *file) Close() error {
	if err := f.enter("close", false); err != nil {
		return err
	}
	defer f.d.mu.Unlock()
	f.d.closed(f)
	return nil
}

func (d *Disk) closed(f *file) {
	f.done = true
	if f.lock {
		delete(d.locks, f.n)
	}
	d.open--
	if f.n.refs--; f.n.refs == 0 && f.n.unlinked {
		d.used -= int64(len(f.n.data))
	}
}

// Size implements vfs.File.
func (f *file) Size() (int64, error) {
	if err := f.enter("stat", false); err != nil {
		return 0, err
	}
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

// Truncate implements vfs.File. A hole takes space here.
func (f *file) Truncate(size int64) error {
	if err := f.enter("truncate", true); err != nil {
		return err
	}
	defer f.d.mu.Unlock()
	if grow := size - int64(len(f.n.data)); grow > f.d.o.Capacity-f.d.used && grow > 0 {
		return pathError("truncate", f.name, syscall.ENOSPC)
	}
	f.d.resize(f.n, size)
	return nil
}

// Allocate implements vfs.File.
func (f *file) Allocate(off, n int64) error {
	if err := f.enter("fallocate", true); err != nil {
		return err
	}
	defer f.d.mu.Unlock()
	grow := off + n - int64(len(f.n.data))
	if grow > 0 && grow > f.d.o.Capacity-f.d.used {
		return pathError("fallocate", f.name, syscall.ENOSPC)
	}
	if grow > 0 {
		f.d.resize(f.n, off+n)
	}
	return nil
}

// Sync implements vfs.File.
func (f *file) Sync() error {
	if err := f.enter("fdatasync", false); err != nil {
		return err
	}
	defer f.d.mu.Unlock()
	f.n.sync()
	return nil
}

// SetModified implements vfs.File.
func (f *file) SetModified(t time.Time) error {
	if err := f.enter("utimensat", false); err != nil {
		return err
	}
	defer f.d.mu.Unlock()
	if !t.IsZero() {
		f.n.mtime = t
	}
	return nil
}

// FailSync is a sync that fails: what was to be written is dropped, and a later
// sync will not notice.
func (f *file) FailSync() {
	if f.enter("fdatasync", false) != nil {
		return
	}
	defer f.d.mu.Unlock()
	f.n.failSync(f.d.o.Rand)
}

// OS implements vfs.File.
func (f *file) OS() *os.File { return nil }

// Map implements vfs.File.
func (f *file) Map(off int64, n int, write bool) (vfs.Mapping, error) {
	if err := f.enter("mmap", write); err != nil {
		return nil, err
	}
	defer f.d.mu.Unlock()
	if off < 0 || off%vfs.PageSize() != 0 || n <= 0 {
		return nil, pathError("mmap", f.name, syscall.EINVAL)
	}
	m := &mapping{d: f.d, n: f.n, name: f.name, off: off, length: n, writable: write}
	m.grow()
	f.n.maps = append(f.n.maps, m)
	f.n.refs++
	f.d.mappings++
	return m, nil
}

// mapping implements vfs.Mapping with a copy that changes with the file, and is only
// as long as the file has been: mappings tend to go far beyond it.
type mapping struct {
	d        *Disk
	n        *node
	name     string
	off      int64
	length   int
	b        []byte
	writable bool
	done     bool
}

// grow makes the copy as long as the file, within what is mapped.
func (m *mapping) grow() {
	size := min(int64(m.length), int64(len(m.n.data))-m.off)
	if size <= int64(len(m.b)) {
		return
	}
	// Elsewhere: somebody may be reading what there is.
	b := make([]byte, size)
	copy(b, m.n.data[m.off:])
	m.b = b
}

// see takes in what was written to the file at off.
func (m *mapping) see(p []byte, off int64) {
	m.grow()
	from, to := max(off, m.off), min(off+int64(len(p)), m.off+int64(len(m.b)))
	if from < to {
		copy(m.b[from-m.off:], p[from-off:to-off])
	}
}

// zero clears a range of the file that was cut off.
func (m *mapping) zero(from, to int64) {
	from, to = max(from, m.off), min(to, m.off+int64(len(m.b)))
	if from < to {
		clear(m.b[from-m.off : to-m.off])
	}
}

// Bytes implements vfs.Mapping. The answer ends where the file does, or has once;
// it need not show what is written after the file has grown.
func (m *mapping) Bytes() []byte {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if !m.done {
		m.grow()
	}
	return m.b
}

// Store implements vfs.Mapping. A store beyond the size of the file is a fault,
// even in its last page, where a kernel would let it pass and lose it.
func (m *mapping) Store(off int, p []byte) error {
	if err := m.d.enter(); err != nil {
		return pathError("store", m.name, err)
	}
	defer m.d.mu.Unlock()
	size := int64(len(m.n.data))
	switch {
	case m.done:
		return pathError("store", m.name, os.ErrClosed)
	case !m.writable, off < 0, off+len(p) > m.length, m.off+int64(off+len(p)) > size:
		return fmt.Errorf("store %d bytes at %d of %s, which has %d: %w", len(p), m.off+int64(off), m.name, size, vfs.ErrFault)
	}
	m.n.put(p, m.off+int64(off))
	m.d.touched(m.n)
	return nil
}

// Close implements vfs.Mapping.
func (m *mapping) Close() error {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if m.done {
		return nil
	}
	m.done = true
	if m.d.dead {
		return nil
	}
	m.d.mappings--
	m.n.maps = slices.DeleteFunc(m.n.maps, func(o *mapping) bool { return o == m })
	if m.n.refs--; m.n.refs == 0 && m.n.unlinked {
		m.d.used -= int64(len(m.n.data))
	}
	return nil
}
