package serve

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/millrace/millrace/core"
)

// Stream moves the bytes of one connection. Receive is called by one goroutine
// and the sending methods by one goroutine at a time; both may run together. Closing
// the connection below ends calls that wait.
type Stream interface {
	// Receive reads what is there into the buffer that into returns and waits when
	// there is nothing. A stream that can tell calls idle before it waits and into
	// again afterwards, so that a waiting connection holds no buffer.
	Receive(into func() []byte, idle func()) (int, error)
	// Send writes all the buffers or fails; it may change bufs but not the bytes.
	// more says that the rest of the frame follows at once. It fails with ErrStalled
	// when the peer has taken nothing for the stall timeout.
	Send(bufs [][]byte, more bool) error
	// PeerGone reports whether the peer is known to have closed its end. It may be
	// called from any goroutine, and false means nothing.
	PeerGone() bool
}

// FileSender is a Stream that sends from files without reading them.
type FileSender interface {
	// SendFile sends n bytes of f from off on, and returns how many it has sent. A
	// file that ends before is ErrShrunk; errors.ErrUnsupported, that this file has to
	// be read.
	SendFile(f *os.File, off, n int64) (int64, error)
}

// HalfCloser is a Stream that can end its sending direction alone.
type HalfCloser interface {
	CloseWrite() error
}

var (
	// ErrStalled says that a peer has not taken anything for too long.
	ErrStalled = errors.New("peer does not read")
	// ErrShrunk says that a slice has fewer bytes than announced; the frame cannot be
	// finished.
	ErrShrunk = errors.New("slice has become shorter while it was sent")
)

// sendChunk bounds one write of a stream that cannot report progress: within the
// stall timeout the peer has to take that many bytes.
const sendChunk = 64 << 10

// netStream is a Stream over any net.Conn: for TLS, and for systems without a
// better one.
type netStream struct {
	conn  net.Conn
	stall time.Duration
	clock core.Clock
}

// NewStream makes a Stream of any connection. A write that takes longer than stall
// for 64 KiB fails with ErrStalled.
func NewStream(conn net.Conn, stall time.Duration, clock core.Clock) Stream {
	return &netStream{conn: conn, stall: stall, clock: clock}
}

// Receive implements Stream; it holds a buffer while it waits.
func (s *netStream) Receive(into func() []byte, idle func()) (int, error) {
	idle()
	return s.conn.Read(into())
}

// Send implements Stream.
func (s *netStream) Send(bufs [][]byte, _ bool) error {
	for _, b := range bufs {
		for len(b) > 0 {
			if err := s.conn.SetWriteDeadline(s.clock.Now().Add(s.stall)); err != nil {
				return err
			}
			n, err := s.conn.Write(b[:min(len(b), sendChunk)])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return ErrStalled
			}
			if err != nil {
				return err
			}
			b = b[n:]
		}
	}
	return nil
}

// PeerGone implements Stream: it cannot tell.
func (s *netStream) PeerGone() bool { return false }

// CloseWrite implements HalfCloser, where the connection does.
func (s *netStream) CloseWrite() error {
	if h, ok := s.conn.(HalfCloser); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}
