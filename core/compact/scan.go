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

// scanner reads a log entry by entry through one buffer.
type scanner struct {
	log      core.LogReader
	throttle *Throttle
	size     int // of the buffer; it grows for a batch that is larger
	buf      []byte
	read     int64 // bytes so far
	message  record.Message
}

// visitor is what is done with each entry of a log. What it is given is whole, its
// checksum right, and borrowed during the call.
type visitor struct {
	batch func(record.Batch) error
	// message is for messages and wrappers of magic 0 and 1, entry being their bytes.
	// What is in a wrapper was not looked at.
	message func(m *record.Message, entry []byte) error
}

// entries visits each entry that has an offset in [from, below).
func (s *scanner) entries(ctx context.Context, from, below int64, v visitor) error {
	return s.chunks(ctx, from, below, func(sl core.Slice) error { return s.whole(ctx, sl, v) })
}

// headers calls visit for each batch in [from, below). Of control batches it gives
// all, of others the header; messages of magic 0 and 1 it passes over.
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

// whole walks the entries of a slice.
func (s *scanner) whole(ctx context.Context, sl core.Slice, v visitor) error {
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
		for have-used >= record.PeekSize {
			size, magic, err := measure(s.buf[used:have])
			if err != nil {
				return err
			}
			if size > have-used {
				break
			}
			if err := s.visit(&v, magic, s.buf[used:used+size:used+size]); err != nil {
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
		if have >= record.PeekSize {
			size, _, err := measure(s.buf[:have])
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

// visit checks an entry and hands it over.
func (s *scanner) visit(v *visitor, magic int8, entry []byte) error {
	if magic < record.Magic2 {
		var err error
		if s.message, err = record.ParseMessage(entry); err != nil {
			return fmt.Errorf("%w: message at offset %d: %w", core.ErrCorrupt, record.Batch(entry).BaseOffset(), err)
		}
		return v.message(&s.message, entry)
	}
	if err := record.Check(entry); err != nil {
		return fmt.Errorf("%w: %w", core.ErrCorrupt, err)
	}
	return v.batch(entry)
}

// measure is the size and the magic of the entry at the start of p, which has at least
// record.PeekSize bytes.
func measure(p []byte) (size int, magic int8, err error) {
	size, magic, ok := record.Peek(p)
	switch {
	case magic < record.Magic0 || magic > record.Magic2:
		return 0, magic, fmt.Errorf("batch at offset %d has magic %d: %w", record.Batch(p).BaseOffset(), magic, core.ErrCorrupt)
	case !ok:
		return 0, magic, fmt.Errorf("batch at offset %d claims %d bytes: %w", record.Batch(p).BaseOffset(), record.Batch(p).Size(), core.ErrCorrupt)
	}
	return size, magic, nil
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
		p, err := bytes(pos, record.PeekSize, end)
		if err != nil {
			return err
		}
		size, magic, err := measure(p)
		if err != nil {
			return err
		}
		if magic < record.Magic2 {
			pos += int64(size)
			continue
		}
		if p, err = bytes(pos, record.HeaderSize, end); err != nil {
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
