package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

const (
	offsetEntry = 8  // relative offset int32, position int32
	timeEntry   = 12 // timestamp int64, relative offset int32
	// indexChunk is what the file of an active index grows by at first, in bytes;
	// then it doubles.
	indexChunk = 4096
)

// index is a mapped .index or .timeindex. Entries below n are there for every
// reader; one writer adds to an active one.
type index struct {
	fs    vfs.FS
	path  string
	entry int // size of an entry in bytes
	n     atomic.Int32
	m     vfs.Mapping // nil where nothing is mapped

	// The writer's: limit is the most that the file may take and reserved what is
	// taken, in bytes.
	limit, reserved int
}

// openIndex maps an index file, which holds whole entries only; a file that is
// missing is empty. A writable one is mapped as far as it may grow, so that it
// need not be mapped again. No descriptor stays open.
func openIndex(fs vfs.FS, path string, entry int, limit int32, writable bool) (*index, error) {
	x := &index{fs: fs, path: path, entry: entry, limit: int(limit) / entry * entry}
	flag := os.O_RDONLY
	if writable {
		flag = os.O_RDWR | os.O_CREATE
	}
	f, err := fs.OpenFile(path, flag, 0o644)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return x, nil
		}
		return nil, err
	}
	err = x.mapFile(f, writable)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, x.close())
	}
	return x, nil
}

func (x *index) mapFile(f vfs.File, writable bool) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > math.MaxInt32 {
		return fmt.Errorf("%s: %d bytes: %w", x.path, size, core.ErrCorrupt)
	}
	x.reserved = int(size)
	x.n.Store(int32(x.reserved / x.entry))
	length := x.reserved
	if writable {
		x.limit = max(x.limit, x.reserved/x.entry*x.entry)
		length = x.limit
	}
	if length == 0 {
		return nil
	}
	x.m, err = f.Map(0, length, writable)
	return err
}

func (x *index) close() error {
	if x.m == nil {
		return nil
	}
	return x.m.Close()
}

// full reports that no n more entries fit.
func (x *index) full(n int) bool { return (int(x.n.Load())+n)*x.entry > x.limit }

// reserve makes room on disk for n more entries, or for as many as the limit
// leaves.
func (x *index) reserve(n int) error {
	need := min((int(x.n.Load())+n)*x.entry, x.limit)
	if need <= x.reserved {
		return nil
	}
	size := x.reserved
	for size < need {
		size = max(indexChunk, size*2)
	}
	size = min(size, x.limit)
	f, err := x.fs.OpenFile(x.path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	err = f.Allocate(0, int64(size))
	if errors.Is(err, errors.ErrUnsupported) {
		err = f.Truncate(int64(size))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		x.reserved = -1 // whatever it is now, trimming has to cut it
		return err
	}
	x.reserved = size
	return nil
}

// add appends an entry for which there is room; see reserve.
func (x *index) add(e []byte) error {
	n := int(x.n.Load())
	if err := x.m.Store(n*x.entry, e); err != nil {
		return err
	}
	x.n.Store(int32(n + 1))
	return nil
}

// cut drops the entries from n on, and what is reserved.
func (x *index) cut(n int) error {
	x.n.Store(int32(n))
	if x.reserved == n*x.entry {
		return nil
	}
	f, err := x.fs.OpenFile(x.path, os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(int64(n*x.entry)), f.Close()); err != nil {
		return err
	}
	x.reserved = n * x.entry
	return nil
}

// trim drops what is reserved.
func (x *index) trim() error { return x.cut(int(x.n.Load())) }

// place is an entry of an offset index: the last offset of a batch, relative to
// the segment, and where the batch begins. i is its number; -1 for none.
type place struct {
	i        int
	rel, pos int32
}

// timePlace is an entry of a time index: no batch up to the one whose last offset
// is rel has a later timestamp than ts.
type timePlace struct {
	i   int
	ts  int64
	rel int32
}

func offsetAt(b []byte, i int) (rel, pos int32) {
	e := b[i*offsetEntry : i*offsetEntry+offsetEntry]
	return int32(binary.BigEndian.Uint32(e)), int32(binary.BigEndian.Uint32(e[4:]))
}

func timeAt(b []byte, i int) (ts int64, rel int32) {
	e := b[i*timeEntry : i*timeEntry+timeEntry]
	return int64(binary.BigEndian.Uint64(e)), int32(binary.BigEndian.Uint32(e[8:]))
}

// find is the last entry whose offset is at most rel and whose position at most
// pos.
func (x *index) find(rel, pos int32) (at place, err error) {
	n := int(x.n.Load())
	if n == 0 {
		return place{i: -1}, nil
	}
	defer vfs.CatchFault(&err, debug.SetPanicOnFault(true))
	b := x.m.Bytes()
	at.i = -1
	for lo, hi := 0, n; lo < hi; {
		mid := int(uint(lo+hi) >> 1)
		if r, p := offsetAt(b, mid); r <= rel && p <= pos {
			lo, at = mid+1, place{mid, r, p}
		} else {
			hi = mid
		}
	}
	return at, nil
}

// get is entry i of an offset index, which has it.
func (x *index) get(i int) (at place, err error) {
	defer vfs.CatchFault(&err, debug.SetPanicOnFault(true))
	rel, pos := offsetAt(x.m.Bytes(), i)
	return place{i, rel, pos}, nil
}

// findTime is the last entry of a time index whose timestamp is below ms and whose
// offset is at most rel.
func (x *index) findTime(ms int64, rel int32) (at timePlace, err error) {
	n := int(x.n.Load())
	if n == 0 {
		return timePlace{i: -1}, nil
	}
	defer vfs.CatchFault(&err, debug.SetPanicOnFault(true))
	b := x.m.Bytes()
	at.i = -1
	for lo, hi := 0, n; lo < hi; {
		mid := int(uint(lo+hi) >> 1)
		if t, r := timeAt(b, mid); t < ms && r <= rel {
			lo, at = mid+1, timePlace{mid, t, r}
		} else {
			hi = mid
		}
	}
	return at, nil
}

// relative is the distance of an offset from the base of its segment, as far as an
// entry can hold it.
func relative(offset, base int64) int32 {
	return int32(max(-1, min(offset-base, math.MaxInt32)))
}
