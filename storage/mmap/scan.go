package mmap

import (
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/vfs"
)

// walkBuffer is how much a walk over small batches reads at a time, in bytes.
const walkBuffer = 4096

// walker reads batch headers of a log file, below a limit.
type walker struct {
	f      vfs.File
	limit  int64 // no byte from here on is looked at
	at     int64 // of buf in the file
	n      int   // bytes in buf
	buf    [walkBuffer]byte
	streak int // batches in a row that were small
}

// reset points the walker at a file.
func (w *walker) reset(f vfs.File, limit int64) {
	w.f, w.limit, w.at, w.n, w.streak = f, limit, 0, 0, 0
}

// header reads the header of the batch at pos. ok is false where no whole batch is
// there: at the limit, or in torn or corrupt bytes.
func (w *walker) header(pos int64) (h header, ok bool, err error) {
	if pos < 0 || pos >= w.limit {
		return header{}, false, nil
	}
	want := min(headerSize, w.limit-pos)
	if pos < w.at || pos+want > w.at+int64(w.n) {
		// Small batches are read several at a time, once there are some in a row.
		n := int64(headerSize)
		if w.streak > 0 {
			n = walkBuffer
		}
		n = min(n, w.limit-pos)
		got, err := w.f.ReadAt(w.buf[:n], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return header{}, false, err
		}
		w.at, w.n = pos, got
		want = min(want, int64(got))
	}
	off := pos - w.at
	h, ok = decodeHeader(w.buf[off : off+want])
	if !ok || h.size > w.limit-pos {
		return header{}, false, nil
	}
	if h.size < walkBuffer/2 {
		w.streak++
	} else {
		w.streak = 0
	}
	return h, true, nil
}

// seek walks from pos, where a batch begins, to the first batch that ends after
// offset. ok is false where the log ends before; prev is the end of the batch
// before, -1 where none was seen.
func (w *walker) seek(pos, offset int64) (at int64, h header, prev int64, ok bool, err error) {
	prev = -1
	for {
		h, ok, err = w.header(pos)
		if err != nil || !ok || h.last >= offset {
			return pos, h, prev, ok, err
		}
		prev = h.next()
		pos += h.size
	}
}

// errBroken says that a walk met bytes that are no batch, in a part of the log
// that is known to be whole.
func errBroken(path string, pos int64) error {
	return fmt.Errorf("%s: no batch at position %d: %w", path, pos, core.ErrCorrupt)
}
