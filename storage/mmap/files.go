package mmap

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/internal/vfs"
)

// files are the open resources of a segment. Whoever uses them holds a reference;
// the last one to let go closes them, long after the segment is gone if need be.
type files struct {
	refs     atomic.Int32
	log      vfs.File
	writable bool

	// Mapped on first use, under the segment's lock; read without it.
	index atomic.Pointer[index]
	times atomic.Pointer[index]
}

func newFiles(log vfs.File, writable bool) *files {
	f := &files{log: log, writable: writable}
	f.refs.Store(1)
	return f
}

// release gives a reference back.
func (f *files) release() error {
	if f.refs.Add(-1) > 0 {
		return nil
	}
	return errors.Join(f.log.Close(), f.unmap())
}

// cache bounds how many segments other than active ones have open files: beyond
// max, one that was not used for a while is closed (the clock algorithm).
type cache struct {
	max int

	mu   sync.Mutex
	list []*segment
}

// add takes in a segment that has opened its files. No lock of a segment may be
// held.
func (c *cache) add(s *segment) {
	var victims []*segment
	c.mu.Lock()
	if !s.cached {
		s.cached = true
		c.list = append(c.list, s)
	}
	for len(c.list) > c.max {
		v := c.list[0]
		c.list = c.list[1:]
		if v.used.Swap(false) {
			c.list = append(c.list, v)
			continue
		}
		v.cached = false
		victims = append(victims, v)
	}
	c.mu.Unlock()
	for _, v := range victims {
		v.dropFiles()
	}
}

// remove forgets a segment that is gone.
func (c *cache) remove(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.cached {
		return
	}
	s.cached = false
	for i, v := range c.list {
		if v == s {
			c.list = append(c.list[:i], c.list[i+1:]...)
			return
		}
	}
}

// unmap closes the mappings of files that nobody else has.
func (f *files) unmap() error {
	var err error
	if x := f.index.Swap(nil); x != nil {
		err = x.close()
	}
	if x := f.times.Swap(nil); x != nil {
		err = errors.Join(err, x.close())
	}
	return err
}
