package convert

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
)

// messages is a core.Slice of what becomes of src. At most one converted batch is in
// memory.
type messages struct {
	converter *Converter
	src       core.Slice
	request   Request
	size      int // of the answer

	read  int64  // position in src of the next batch
	now   []byte // the batch at hand, converted
	start int64  // its position in the answer
	over  bool   // now is the filling
	sent  int64  // batches
}

// Len implements core.Slice.
func (s *messages) Len() int { return s.size }

// File implements core.Slice: there is none.
func (*messages) File() (*os.File, int64, bool) { return nil, 0, false }

// ReadAt implements core.Slice.
func (s *messages) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < s.start {
		s.rewind()
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= int64(s.size) {
			return n, io.EOF
		}
		if i := at - s.start; i < int64(len(s.now)) {
			end := min(int64(len(s.now)), int64(s.size)-s.start)
			n += copy(p[n:], s.now[i:end])
			continue
		}
		if err := s.next(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close implements core.Slice.
func (s *messages) Close() error {
	if s.request.Meter != nil && s.sent > 0 {
		s.request.Meter.DownConverted(s.sent)
	}
	s.now, s.sent = nil, 0
	return s.src.Close()
}

// rewind begins anew.
func (s *messages) rewind() { s.read, s.now, s.start, s.over, s.sent = 0, nil, 0, false, 0 }

// next goes on to what follows the batch at hand.
func (s *messages) next() error {
	s.start += int64(len(s.now))
	if s.over {
		// All that is left is behind the head of the filling.
		s.now = make([]byte, min(int64(s.size)-s.start, maxFilling))
		return nil
	}
	err := s.advance()
	var ke *core.KafkaError
	if err != nil && !errors.As(err, &ke) {
		return err // the file cannot be read: the connection has to go
	}
	if err != nil || len(s.now) == 0 {
		s.now, s.over = filling(int64(s.size)-s.start), true
	}
	return nil
}

// advance converts the next batch of which anything is left; now is empty at the end
// of src.
func (s *messages) advance() error {
	s.now = nil
	for s.read < int64(s.src.Len()) {
		m, size, err := s.converter.batch(s.src, s.read, &s.request)
		if err != nil {
			return err
		}
		s.read += int64(size)
		if s.now = record.MessagesFrom(m, s.request.From); len(s.now) > 0 {
			s.sent++
			return nil
		}
	}
	return nil
}

// maxFilling bounds the memory for what no client looks at, in bytes.
const maxFilling = 16 << 10

// filling is the beginning of a message that is longer than the left bytes of the
// answer, in Kafka's form: offset -1, and a length that may be that of a batch.
func filling(left int64) []byte {
	b := make([]byte, record.LogOverhead, max(record.LogOverhead, min(left, maxFilling)))
	binary.BigEndian.PutUint64(b, uint64(1<<64-1))
	binary.BigEndian.PutUint32(b[8:], uint32(max(left+1, record.HeaderSize)))
	return b[:cap(b)]
}
