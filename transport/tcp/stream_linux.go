package tcp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/internal/serve"
)

// streamsWait: the streams of this system tell when they wait.
const streamsWait = true

const (
	maxIovecs = 16
	// maxSendfile bounds one call, so that a cold file does not hold its thread for
	// too long.
	maxSendfile = 4 << 20
)

// socket is a stream over the descriptor of a TCP connection. It makes the system
// calls itself, inside of syscall.RawConn, which waits in the runtime's poller:
// that way it sees when a read would wait, can send a frame's pieces with MSG_MORE,
// and passes sendfile an explicit offset. The fields of one direction belong to
// the goroutine that uses it.
type socket struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	stall time.Duration
	// The callbacks are bound once: a closure for each call would be allocated.
	readFn, sendFn, fileFn func(fd uintptr) bool

	into  func() []byte
	idle  func()
	readN int
	rdErr error

	bufs    [][]byte // what is left to send
	iov     [maxIovecs]unix.Iovec
	msg     unix.Msghdr
	flags   int
	file    int // descriptor
	off     int64
	rest    int64
	wrErr   error
	stalled time.Time // since when the peer takes nothing; zero when it does
	armed   bool      // a write deadline is set
}

// fileSocket is a socket with sendfile.
type fileSocket struct{ *socket }

// plain makes the stream of an unencrypted connection.
func (t *Transport) plain(c net.Conn, l core.ListenerConfig) (serve.Stream, error) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return nil, fmt.Errorf("a %T is no TCP connection: %w", c, errors.ErrUnsupported)
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{conn: tc, raw: raw, stall: serve.Stall(l)}
	s.readFn, s.sendFn, s.fileFn = s.read, s.sendSome, s.fileSome
	if t.opts.NoSendfile {
		return s, nil
	}
	return fileSocket{s}, nil
}

// Receive implements serve.Stream.
func (s *socket) Receive(into func() []byte, idle func()) (int, error) {
	s.into, s.idle, s.readN, s.rdErr = into, idle, 0, nil
	if err := s.raw.Read(s.readFn); err != nil {
		return 0, err
	}
	return s.readN, s.rdErr
}

// read is one attempt; false waits for the peer.
func (s *socket) read(fd uintptr) bool {
	for {
		b := s.into()
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			if s.readN = int(n); n == 0 {
				s.rdErr = io.EOF
			}
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			s.idle()
			return false
		default:
			s.rdErr = os.NewSyscallError("read", errno)
			return true
		}
	}
}

// Send implements serve.Stream.
func (s *socket) Send(bufs [][]byte, more bool) error {
	s.bufs, s.flags = bufs, unix.MSG_NOSIGNAL
	if more {
		s.flags |= unix.MSG_MORE
	}
	err := s.write(s.sendFn)
	s.bufs = nil
	clear(s.iov[:])
	return err
}

// sendSome sends what the socket takes; false waits for room.
func (s *socket) sendSome(fd uintptr) bool {
	for {
		k := 0
		for _, b := range s.bufs {
			if k == maxIovecs {
				break
			}
			if len(b) > 0 {
				s.iov[k].Base = unsafe.SliceData(b)
				s.iov[k].SetLen(len(b))
				k++
			}
		}
		if k == 0 {
			return true
		}
		s.msg.Iov = &s.iov[0]
		s.msg.SetIovlen(k)
		n, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.msg)), uintptr(s.flags))
		switch errno {
		case 0:
			s.advance(int(n))
		case unix.EINTR:
		case unix.EAGAIN:
			s.waitForPeer()
			return false
		default:
			s.wrErr = os.NewSyscallError("sendmsg", errno)
			return true
		}
	}
}

// advance drops n bytes that were sent.
func (s *socket) advance(n int) {
	if n > 0 {
		s.stalled = time.Time{}
	}
	for len(s.bufs) > 0 && n >= len(s.bufs[0]) {
		n -= len(s.bufs[0])
		s.bufs = s.bufs[1:]
	}
	if n > 0 {
		s.bufs[0] = s.bufs[0][n:]
	}
}

// SendFile implements serve.FileSender.
func (s fileSocket) SendFile(f *os.File, off, n int64) (int64, error) {
	s.file, s.off, s.rest = int(f.Fd()), off, n
	err := s.write(s.fileFn)
	runtime.KeepAlive(f)
	return n - s.rest, err
}

// fileSome sends what the socket takes of the file; false waits for room.
func (s *socket) fileSome(fd uintptr) bool {
	for s.rest > 0 {
		n, err := unix.Sendfile(int(fd), s.file, &s.off, int(min(s.rest, maxSendfile)))
		switch {
		case n > 0:
			s.rest -= int64(n)
			s.stalled = time.Time{}
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			s.waitForPeer()
			return false
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
			s.wrErr = errors.ErrUnsupported // this file system has no sendfile
			return true
		case err != nil:
			s.wrErr = os.NewSyscallError("sendfile", err)
			return true
		default:
			s.wrErr = fmt.Errorf("%d bytes are missing at position %d: %w", s.rest, s.off, serve.ErrShrunk)
			return true
		}
	}
	return true
}

// waitForPeer notes that the socket takes nothing. A write deadline is set when
// that happens and not for each write, so that it may be early; see write.
func (s *socket) waitForPeer() {
	if !s.stalled.IsZero() {
		return
	}
	s.stalled = time.Now()
	if !s.armed {
		s.armed = true
		_ = s.conn.SetWriteDeadline(s.stalled.Add(s.stall)) // fails when closed, as the write will
	}
}

// write runs an attempt until it is through.
func (s *socket) write(attempt func(fd uintptr) bool) error {
	s.wrErr, s.stalled = nil, time.Time{}
	for {
		err := s.raw.Write(attempt)
		if err == nil {
			return s.wrErr
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		next := time.Time{}
		s.armed = !s.stalled.IsZero()
		if s.armed {
			if next = s.stalled.Add(s.stall); !time.Now().Before(next) {
				return serve.ErrStalled
			}
		}
		if err := s.conn.SetWriteDeadline(next); err != nil {
			return err
		}
	}
}

// PeerGone implements serve.Stream: it asks whether the peer has closed its end,
// without reading what comes before.
func (s *socket) PeerGone() bool {
	gone := false
	err := s.raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p[:], 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return err == nil && gone
}

// CloseWrite implements serve.HalfCloser.
func (s *socket) CloseWrite() error { return s.conn.CloseWrite() }
