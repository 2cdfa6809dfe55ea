package memory

import (
	"fmt"
	"io"
	"os"
	"sort"
)

// slice implements core.Slice over whole batches of one segment.
type slice struct {
	entries []entry
	n       int
	closed  bool
}

func newSlice(entries []entry) *slice {
	n := entries[len(entries)-1].end() - entries[0].pos
	return &slice{entries: entries, n: int(n)}
}

// Len implements core.Slice.
func (s *slice) Len() int { return s.n }

// File implements core.Slice: there is none.
func (s *slice) File() (*os.File, int64, bool) { return nil, 0, false }

// ReadAt implements io.ReaderAt.
func (s *slice) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case s.closed:
		return 0, fmt.Errorf("read slice: %w", os.ErrClosed)
	case off < 0:
		return 0, fmt.Errorf("read slice at %d: negative offset", off)
	case off >= int64(s.n):
		return 0, io.EOF
	}
	pos := s.entries[0].pos + off
	i := sort.Search(len(s.entries), func(i int) bool { return s.entries[i].end() > pos })
	n := 0
	for ; i < len(s.entries) && n < len(p); i++ {
		e := &s.entries[i]
		c := copy(p[n:], e.data[pos-e.pos:])
		n += c
		pos += int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Close implements core.Slice.
func (s *slice) Close() error {
	s.closed = true
	s.entries = nil
	return nil
}
