package embedded

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/millrace/millrace/core"
)

// A log file is a header and frames. The header:
//
//	magic "MRCOLOG1", generation u64, salt u64, zero u32, CRC32C u32 of all before
//
// A frame holds the transactions of one write:
//
//	marker u32 (the salt's low half), length u32, CRC32C u32, payload
//
// The CRC covers the salt, the frame's own position, the length and the payload,
// so that bytes which look like a frame because they were copied from elsewhere
// are not taken for one. A frame is written only after the one before has been
// synced. So a frame that is not whole with no whole one behind it is a write
// that was never acknowledged, and anything else is damage.
const (
	logMagic   = "MRCOLOG1"
	headerSize = 32
	frameSize  = 12
)

// logFile is what the log needs of an os.File; tests put failures in between.
type logFile interface {
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// wal is the open log of one generation. It has one user at a time.
type wal struct {
	f    logFile
	path string
	salt uint64
	end  int64 // where the next frame goes
	buf  []byte
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// createLog makes a log with nothing but a header, not yet synced.
func createLog(path string, gen uint64) (*wal, error) {
	var h [headerSize]byte
	copy(h[:], logMagic)
	binary.BigEndian.PutUint64(h[8:], gen)
	if _, err := rand.Read(h[16:24]); err != nil {
		return nil, fmt.Errorf("salt of %s: %w", path, err)
	}
	binary.BigEndian.PutUint32(h[28:], crc32.Checksum(h[:28], castagnoli()))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	if _, err := f.WriteAt(h[:], 0); err != nil {
		return nil, errors.Join(fmt.Errorf("write header of %s: %w", path, err), f.Close())
	}
	return &wal{f: f, path: path, salt: binary.BigEndian.Uint64(h[16:]), end: headerSize}, nil
}

// openLog reads a log, handing each transaction to apply, and opens it for
// writing behind its last whole frame. torn is the number of bytes cut from its
// end.
func openLog(path string, gen uint64, apply func(txn) error) (w *wal, torn int64, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read log: %w", err)
	}
	salt, err := parseHeader(b, gen)
	if err != nil {
		return nil, 0, fmt.Errorf("log %s at offset 0: %w: %w", path, core.ErrCorrupt, err)
	}
	end, err := replay(b, salt, apply)
	if err != nil {
		return nil, 0, fmt.Errorf("log %s at offset %d: %w: %w; restore the directory from a backup", path, end, core.ErrCorrupt, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	if torn = int64(len(b)) - end; torn > 0 {
		if err := f.Truncate(end); err != nil {
			return nil, 0, errors.Join(fmt.Errorf("cut the torn end of %s: %w", path, err), f.Close())
		}
	}
	return &wal{f: f, path: path, salt: salt, end: end}, torn, nil
}

func parseHeader(b []byte, gen uint64) (salt uint64, err error) {
	switch {
	case len(b) < headerSize:
		return 0, fmt.Errorf("the header has %d bytes of %d", len(b), headerSize)
	case string(b[:8]) != logMagic:
		return 0, errors.New("not a coordination log")
	case crc32.Checksum(b[:28], castagnoli()) != binary.BigEndian.Uint32(b[28:]):
		return 0, errors.New("the header's checksum is wrong")
	case binary.BigEndian.Uint64(b[8:]) != gen:
		return 0, fmt.Errorf("it is generation %d, its name says %d", binary.BigEndian.Uint64(b[8:]), gen)
	}
	return binary.BigEndian.Uint64(b[16:]), nil
}

// replay hands over the transactions of a whole log file and answers the
// position behind the last whole frame. With an error it is the position of the
// damage.
func replay(b []byte, salt uint64, apply func(txn) error) (int64, error) {
	pos := headerSize
	for pos < len(b) {
		payload, err := parseFrame(b, pos, salt)
		if err != nil {
			if next := nextFrame(b, pos+1, salt); next >= 0 {
				return int64(pos), fmt.Errorf("%w, and whole frames follow from offset %d", err, next)
			}
			return int64(pos), nil
		}
		txns, err := decodeBatch(payload)
		if err != nil {
			return int64(pos), fmt.Errorf("the frame's content: %w", err)
		}
		for _, x := range txns {
			if err := apply(x); err != nil {
				return int64(pos), err
			}
		}
		pos += frameSize + len(payload)
	}
	return int64(pos), nil
}

func parseFrame(b []byte, pos int, salt uint64) ([]byte, error) {
	h := b[pos:]
	if len(h) < frameSize {
		return nil, fmt.Errorf("a frame's header has %d bytes of %d", len(h), frameSize)
	}
	if binary.BigEndian.Uint32(h) != uint32(salt) {
		return nil, errors.New("no frame begins here")
	}
	size := binary.BigEndian.Uint32(h[4:])
	if uint64(size) > uint64(len(h)-frameSize) {
		return nil, fmt.Errorf("the frame has %d bytes of %d", len(h)-frameSize, size)
	}
	payload := h[frameSize : frameSize+int(size)]
	if frameSum(salt, pos, payload) != binary.BigEndian.Uint32(h[8:]) {
		return nil, errors.New("the frame's checksum is wrong")
	}
	return payload, nil
}

// nextFrame finds the first whole frame at or after pos; -1 when there is none.
func nextFrame(b []byte, pos int, salt uint64) int {
	var marker [4]byte
	binary.BigEndian.PutUint32(marker[:], uint32(salt))
	for pos < len(b) {
		i := bytes.Index(b[pos:], marker[:])
		if i < 0 {
			return -1
		}
		pos += i
		if _, err := parseFrame(b, pos, salt); err == nil {
			return pos
		}
		pos++
	}
	return -1
}

func frameSum(salt uint64, pos int, payload []byte) uint32 {
	var seed [20]byte
	binary.BigEndian.PutUint64(seed[:], salt)
	binary.BigEndian.PutUint64(seed[8:], uint64(pos))
	binary.BigEndian.PutUint32(seed[16:], uint32(len(payload)))
	sum := crc32.Checksum(seed[:], castagnoli())
	return crc32.Update(sum, castagnoli(), payload)
}

// keepBuffer is how large a buffer is kept from one write to the next.
const keepBuffer = 1 << 20

// append writes transactions as one frame and syncs it. clean says of a failure
// that the log is as it was before, so that the caller may go on.
func (w *wal) append(txns []txn) (clean bool, err error) {
	b := append(w.buf[:0], make([]byte, frameSize)...)
	b = appendBatch(b, txns)
	payload := b[frameSize:]
	binary.BigEndian.PutUint32(b, uint32(w.salt))
	binary.BigEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.BigEndian.PutUint32(b[8:], frameSum(w.salt, int(w.end), payload))
	if cap(b) <= keepBuffer {
		w.buf = b
	}
	if _, err := w.f.WriteAt(b, w.end); err != nil {
		err = fmt.Errorf("write %s at offset %d: %w", w.path, w.end, err)
		// The half-written frame is cut off; when not even that works nobody can say
		// what a restart will find.
		if cut := w.f.Truncate(w.end); cut != nil {
			return false, errors.Join(err, cut)
		}
		if cut := w.f.Sync(); cut != nil {
			return false, errors.Join(err, cut)
		}
		return true, err
	}
	// After a failed sync the kernel may have dropped the pages and reports no
	// second failure, so there is no going on.
	if err := w.f.Sync(); err != nil {
		return false, fmt.Errorf("sync %s: %w", w.path, err)
	}
	w.end += int64(len(b))
	return true, nil
}
