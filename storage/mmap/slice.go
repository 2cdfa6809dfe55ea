package mmap

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// slice implements core.Slice: a range of a segment's file, which it keeps open.
type slice struct {
	f   *files // nil once closed
	off int64
	n   int
}

// Len implements core.Slice.
func (s *slice) Len() int { return s.n }

// File implements core.Slice.
func (s *slice) File() (*os.File, int64, bool) {
	if s.f == nil {
		return nil, 0, false
	}
	f := s.f.log.OS()
	return f, s.off, f != nil
}

// ReadAt implements io.ReaderAt.
func (s *slice) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case s.f == nil:
		return 0, fmt.Errorf("read slice: %w", os.ErrClosed)
	case off < 0:
		return 0, fmt.Errorf("read slice at %d: negative offset", off)
	case off >= int64(s.n):
		return 0, io.EOF
	}
	short := int64(len(p)) > int64(s.n)-off
	if short {
		p = p[:int64(s.n)-off]
	}
	n, err := s.f.log.ReadAt(p, s.off+off)
	switch {
	case n < len(p) && errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	case n == len(p) && short:
		return n, io.EOF
	case n == len(p):
		return n, nil
	}
	return n, err
}

// Close implements core.Slice.
func (s *slice) Close() error {
	f := s.f
	if f == nil {
		return nil
	}
	s.f = nil
	return f.release()
}
