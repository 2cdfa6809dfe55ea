package mmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"github.com/millrace/millrace/internal/vfs"
)

// checkBuffer is how much of a log recovery reads at a time, in bytes.
const checkBuffer = 256 << 10

// checker reads a log file from start to end and checks its batches. It needs no
// more memory for a batch that claims to be large.
type checker struct {
	f    vfs.File
	size int64 // of the file
	buf  []byte
	at   int64 // of buf in the file
	n    int
}

func newChecker(fs vfs.FS, name string) (*checker, error) {
	f, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &checker{f: f, size: size, buf: make([]byte, min(checkBuffer, max(size, headerSize)))}, nil
}

// bytes answers up to n bytes from pos on, fewer where the buffer or the file
// ends.
func (c *checker) bytes(pos int64, n int64) ([]byte, error) {
	n = min(n, int64(len(c.buf)), c.size-pos)
	if pos < c.at || pos+n > c.at+int64(c.n) {
		got, err := c.f.ReadAt(c.buf[:min(int64(len(c.buf)), c.size-pos)], pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		c.at, c.n = pos, got
		n = min(n, int64(got))
	}
	off := pos - c.at
	return c.buf[off : off+n], nil
}

// check reads the batch at pos, which must begin at or after the offset next. Its
// checksum is compared unless it lies wholly below point. why says what is wrong
// with it; empty when it is whole.
func (c *checker) check(pos, next, base, point int64) (h header, why string, err error) {
	b, err := c.bytes(pos, headerSize)
	if err != nil {
		return header{}, "", err
	}
	h, ok := decodeHeader(b)
	switch {
	case !ok:
		return h, "no batch header", nil
	case h.size > c.size-pos:
		return h, fmt.Sprintf("a batch of %d bytes in the last %d", h.size, c.size-pos), nil
	case h.base < next:
		return h, fmt.Sprintf("offset %d where %d or more is due", h.base, next), nil
	case h.last-base > math.MaxInt32:
		return h, fmt.Sprintf("offset %d is too far from the segment's base", h.last), nil
	case h.next() <= point:
		return h, "", nil
	}
	stored, sum, err := c.checksum(pos, &h)
	if err == nil && stored != sum {
		why = fmt.Sprintf("checksum %#x, computed %#x", stored, sum)
	}
	return h, why, err
}

const (
	posCRC     = 17
	posCovered = 21 // by the checksum
	posOldCRC  = 12 // before v2
)

func (c *checker) checksum(pos int64, h *header) (stored, sum uint32, err error) {
	at, covered, table := int64(posCRC), int64(posCovered), crc32.MakeTable(crc32.Castagnoli)
	if h.magic < 2 {
		at, covered, table = posOldCRC, posMagic, crc32.IEEETable
	}
	b, err := c.bytes(pos+at, 4)
	if err != nil {
		return 0, 0, err
	}
	stored = binary.BigEndian.Uint32(b)
	for from, end := pos+covered, pos+h.size; from < end; {
		b, err := c.bytes(from, end-from)
		if err != nil {
			return 0, 0, err
		}
		if len(b) == 0 {
			return 0, 0, io.ErrUnexpectedEOF
		}
		sum = crc32.Update(sum, table, b)
		from += int64(len(b))
	}
	return stored, sum, nil
}

// lostBytes is how many bytes from pos on hold something: all but the zeros at the
// end.
func (c *checker) lostBytes(pos int64) (int64, error) {
	var lost int64
	for at := pos; at < c.size; {
		b, err := c.bytes(at, checkBuffer)
		if err != nil || len(b) == 0 {
			return lost, err
		}
		for i := len(b) - 1; i >= 0; i-- {
			if b[i] != 0 {
				lost = at + int64(i) + 1 - pos
				break
			}
		}
		at += int64(len(b))
	}
	return lost, nil
}
