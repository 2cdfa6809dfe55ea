package compact

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// chunkBytes is how much of the log one look-up asks for.
const chunkBytes = 64 << 20

// scanner reads a log batch by batch through one buffer.
type scanner struct {
	log      core.LogReader
	throttle *Throttle
	size     int // of the buffer; it grows for a batch that is larger
	buf      []byte
	read     int64 // bytes so far
}

// batches calls visit for each batch that has an offset in [from, below), whole and
// with its checksum right. A batch is borrowed during the call.
func (s *scanner) batches(ctx context.Context, from, below int64, visit func(record.Batch) error) error {
	return s.chunks(ctx, from, below, func(sl core.Slice) error { return s.whole(ctx, sl, visit) })
}

// headers calls visit for each batch in [from, below). Of control batches it gives
// all, of others the header.
func (s *scanner) headers(ctx context.Context, from, below int64, visit func(record.Batch) error) error {
	return s.chunks(ctx, from, below, func(sl core.Slice) error { return s.skim(ctx, sl, visit) })
}

func (s *scanner) chunks(ctx context.Context, from, below int64, use func(core.Slice) error) error {
	for from < below {
		c, err := s.log.Read(ctx, core.ReadRequest{From: from, Below: below, MaxBytes: chunkBytes, MinOneBatch: true})
		if err != nil {
			if errors.Is(err, core.ErrOffsetOutOfRange) {
				// Trimmed or cut meanwhile.
				return fmt.Errorf("%w: %w", core.ErrChanged, err)
			}
			return err
		}
		if c.Slice == nil {
			return nil
		}
		err = use(c.Slice)
		if e := c.Slice.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
		if c.Next <= from {
			return fmt.Errorf("a read from offset %d goes on at %d: %w", from, c.Next, core.ErrCorrupt)
		}
		from = c.Next
	}
	return nil
}

// whole walks the batches of a slice.
func (s *scanner) whole(ctx context.Context, sl core.Slice, visit func(record.Batch) error) error {
	s.room(s.size)
	have := 0 // bytes in buf that are not used yet
	for pos, end := int64(0), int64(sl.Len()); ; {
		n := int(min(int64(len(s.buf)-have), end-pos))
		if n > 0 {
			if err := s.fill(ctx, sl, s.buf[have:have+n], pos); err != nil {
				return err
			}
			pos, have = pos+int64(n), have+n
		}
		used := 0
		for have-used >= record.HeaderSize {
			size, err := sizeOf(s.buf[used:have])
			if err != nil {
				return err
			}
			if size > have-used {
				break
			}
			b := record.Batch(s.buf[used : used+size : used+size])
			if err := record.Check(b); err != nil {
				return fmt.Errorf("%w: %w", core.ErrCorrupt, err)
			}
			if err := visit(b); err != nil {
				return err
			}
			used += size
		}
		have = copy(s.buf, s.buf[used:have])
		if pos == end {
			if have > 0 {
				return fmt.Errorf("%d bytes at the end of a read are no whole batch: %w", have, core.ErrCorrupt)
			}
			return nil
		}
		if have >= record.HeaderSize {
			size, err := sizeOf(s.buf[:have])
			if err != nil {
				return err
			}
			if int64(size) > int64(have)+end-pos {
				return fmt.Errorf("batch at offset %d claims %d bytes, more than there are: %w", record.Batch(s.buf).BaseOffset(), size, core.ErrCorrupt)
			}
			if size > len(s.buf) {
				s.grow(size, have)
			}
		}
	}
}

// sizeOf is the size of the batch at the start of p, which has a header's length.
func sizeOf(p []byte) (int, error) {
	b := record.Batch(p)
	if m := b.Magic(); m != record.Magic2 {
		if m == record.Magic0 || m == record.Magic1 {
			return 0, fmt.Errorf("records of the old format (magic %d) at offset %d: %w", m, b.BaseOffset(), ErrOldFormat)
		}
		return 0, fmt.Errorf("batch at offset %d has magic %d: %w", b.BaseOffset(), m, core.ErrCorrupt)
	}
	size := b.Size()
	if size < record.HeaderSize {
		return 0, fmt.Errorf("batch at offset %d claims %d bytes: %w", b.BaseOffset(), size, core.ErrCorrupt)
	}
	return size, nil
}

// skim walks the headers of a slice.
func (s *scanner) skim(ctx context.Context, sl core.Slice, visit func(record.Batch) error) error {
	s.room(min(s.size, skimBytes))
	at, have := int64(0), 0 // what buf has of the slice
	bytes := func(pos int64, n int, end int64) ([]byte, error) {
		if pos < at || pos+int64(n) > at+int64(have) {
			if int64(n) > end-pos {
				return nil, fmt.Errorf("%d bytes of a batch where %d are left: %w", n, end-pos, core.ErrCorrupt)
			}
			s.room(n)
			at, have = pos, int(min(int64(max(n, min(len(s.buf), skimBytes))), end-pos))
			if err := s.fill(ctx, sl, s.buf[:have], pos); err != nil {
				return nil, err
			}
		}
		i := int(pos - at)
		return s.buf[i : i+n : i+n], nil
	}
	for pos, end := int64(0), int64(sl.Len()); pos < end; {
		p, err := bytes(pos, record.HeaderSize, end)
		if err != nil {
			return err
		}
		size, err := sizeOf(p)
		if err != nil {
			return err
		}
		if record.Batch(p).IsControl() {
			if p, err = bytes(pos, size, end); err != nil {
				return err
			}
		}
		if err := visit(record.Batch(p)); err != nil {
			return err
		}
		pos += int64(size)
	}
	return nil
}

// skimBytes is how much is read at a time where only headers are wanted.
const skimBytes = 16 << 10

func (s *scanner) room(n int) {
	if len(s.buf) < n {
		s.buf = make([]byte, n)
	}
}

func (s *scanner) grow(n, have int) {
	buf := make([]byte, n)
	copy(buf, s.buf[:have])
	s.buf = buf
}

func (s *scanner) fill(ctx context.Context, sl core.Slice, p []byte, pos int64) error {
	if err := s.throttle.Wait(ctx, len(p)); err != nil {
		return err
	}
	s.read += int64(len(p))
	n, err := sl.ReadAt(p, pos)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", core.ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%w: %w", core.ErrStorage, err)
}
