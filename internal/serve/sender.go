package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"

	"github.com/millrace/millrace/core"
)

const (
	// smallFrame is the largest frame that waits for others, and smallPart the
	// largest part that is copied beside its neighbours instead of going into a
	// writev of its own.
	smallFrame = 8 << 10
	smallPart  = 1 << 10
	// smallSlice is the largest piece of a file that is read instead of going by
	// sendfile: one call less, and it shares its packet.
	smallSlice = 8 << 10
	// vectorLen is how many buffers go into one writev.
	vectorLen = 16
)

var (
	errTooLong = errors.New("reply is longer than a frame can be")
	errChanged = errors.New("reply was changed after it had been given")
)

// sender writes frames to a stream. It is used by one goroutine at a time.
type sender struct {
	stream Stream
	files  FileSender // nil when the stream has no sendfile
	pools  *Pools
	sent   *atomic.Int64

	buf    *Buffer // gathered bytes; nil when there are none
	n      int     // how many
	mark   int     // those before are in vec already
	vec    [vectorLen][]byte
	vecLen int
}

// gathered reports whether bytes wait for a flush.
func (s *sender) gathered() bool { return s.n > 0 }

// frame sends one frame, behind what was gathered. When hold is set and the frame
// is small, it only joins the gathered bytes. The parts stay the caller's. After
// an error the stream is in the middle of a frame, unless nothing of this frame
// had left: keep reports that, and gathered bytes are whole frames then.
func (s *sender) frame(parts []core.Part, length int, hold bool) (keep bool, err error) {
	if length > math.MaxInt32 {
		return true, errTooLong
	}
	if length+prefixBytes <= smallFrame {
		if err := s.room(length + prefixBytes); err != nil {
			return false, err
		}
		start := s.n
		s.prefix(length)
		for i := range parts {
			if err := s.gather(&parts[i]); err != nil {
				s.n = start
				return true, err
			}
		}
		if s.n-start != length+prefixBytes {
			s.n = start
			return true, errChanged
		}
		if hold {
			return true, nil
		}
		return false, s.flush()
	}
	return false, s.large(parts, length)
}

func (s *sender) prefix(length int) {
	binary.BigEndian.PutUint32(s.buf.B[s.n:], uint32(length))
	s.n += prefixBytes
}

// room makes sure that n bytes can be gathered.
func (s *sender) room(n int) error {
	if s.buf != nil && len(s.buf.B)-s.n < n {
		if err := s.write(true); err != nil {
			return err
		}
	}
	if s.buf == nil {
		s.buf = s.pools.Get(gatherBytes)
	}
	return nil
}

// gather copies a part behind the gathered bytes, where there is room.
func (s *sender) gather(p *core.Part) error {
	if p.Slice == nil {
		s.n += copy(s.buf.B[s.n:], p.Bytes)
		return nil
	}
	n := p.Slice.Len()
	if err := readFull(p.Slice, s.buf.B[s.n:s.n+n], 0); err != nil {
		return err
	}
	s.n += n
	return nil
}

// large sends a frame in as few calls as its parts allow. What precedes a piece of
// a file shares its first packet. What follows one does not, because sendfile
// pushes out its last packet: TCP_CORK would prevent that, and costs a fifth more
// processor time where the pieces are large.
func (s *sender) large(parts []core.Part, length int) error {
	if err := s.room(prefixBytes); err != nil {
		return err
	}
	s.prefix(length)
	for i := range parts {
		if err := s.part(&parts[i], i == len(parts)-1); err != nil {
			return err
		}
	}
	return s.flush()
}

func (s *sender) part(p *core.Part, last bool) error {
	if p.Slice == nil && len(p.Bytes) > smallPart {
		return s.refer(p.Bytes)
	}
	n := len(p.Bytes)
	if p.Slice != nil {
		n = p.Slice.Len()
	}
	if p.Slice == nil || n <= smallSlice {
		if err := s.room(n); err != nil {
			return err
		}
		return s.gather(p)
	}
	if err := s.write(true); err != nil {
		return err
	}
	off := int64(0)
	if s.files != nil {
		if f, at, ok := p.Slice.File(); ok {
			sent, err := s.files.SendFile(f, at, int64(n))
			s.sent.Add(sent)
			if !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			off = sent
		}
	}
	return s.copySlice(p.Slice, off, last)
}

// refer puts bytes into the vector, behind what was gathered.
func (s *sender) refer(b []byte) error {
	if s.vecLen+2 > len(s.vec) {
		if err := s.write(true); err != nil {
			return err
		}
	}
	s.take()
	s.vec[s.vecLen] = b
	s.vecLen++
	return nil
}

// take moves the gathered bytes into the vector.
func (s *sender) take() {
	if s.n > s.mark {
		s.vec[s.vecLen] = s.buf.B[s.mark:s.n]
		s.vecLen++
		s.mark = s.n
	}
}

// write sends what is in the vector and what was gathered.
func (s *sender) write(more bool) error {
	s.take()
	var err error
	if s.vecLen > 0 {
		total := 0
		for _, b := range s.vec[:s.vecLen] {
			total += len(b)
		}
		if err = s.stream.Send(s.vec[:s.vecLen], more); err == nil {
			s.sent.Add(int64(total))
		}
		clear(s.vec[:s.vecLen])
	}
	s.vecLen, s.n, s.mark = 0, 0, 0
	return err
}

// flush writes everything and gives the buffer back.
func (s *sender) flush() error {
	err := s.write(false)
	s.release()
	return err
}

// release drops what was gathered.
func (s *sender) release() {
	s.pools.Put(s.buf)
	clear(s.vec[:s.vecLen])
	s.buf, s.n, s.mark, s.vecLen = nil, 0, 0, 0
}

// copySlice sends a slice from off on by reading it.
func (s *sender) copySlice(sl core.Slice, off int64, last bool) error {
	buf := s.pools.Get(copyBytes)
	defer s.pools.Put(buf)
	for rest := int64(sl.Len()) - off; rest > 0; {
		chunk := buf.B[:min(rest, copyBytes)]
		if err := readFull(sl, chunk, off); err != nil {
			return err
		}
		s.vec[0] = chunk
		err := s.stream.Send(s.vec[:1], !last || rest > copyBytes)
		s.vec[0] = nil
		if err != nil {
			return err
		}
		s.sent.Add(int64(len(chunk)))
		off += int64(len(chunk))
		rest -= int64(len(chunk))
	}
	return nil
}

// readFull reads exactly len(b) bytes of a slice.
func readFull(sl core.Slice, b []byte, off int64) error {
	for len(b) > 0 {
		n, err := sl.ReadAt(b, off)
		b, off = b[n:], off+int64(n)
		switch {
		case len(b) == 0:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), err == nil && n == 0:
			return fmt.Errorf("%d bytes are missing: %w", len(b), ErrShrunk)
		case err != nil:
			return fmt.Errorf("read a slice that is being sent: %w", err)
		}
	}
	return nil
}
