package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

const (
	prefixBytes = 4
	// DefaultMaxRequestBytes is Kafka's default of socket.request.max.bytes, for a
	// listener that gives no limit.
	DefaultMaxRequestBytes = 100 << 20
	// newcomerBytes is how much of an announced length is allocated before the bytes
	// are there, on a connection that has not sent larger frames yet; what it has sent
	// raises that, up to trustedBytes. Beyond that the buffer doubles as bytes arrive.
	newcomerBytes = 64 << 10
	trustedBytes  = 4 << 20
	// peekBytes is how much is read ahead at the start of a frame, after a frame that
	// was too large for the read buffer: those bytes are copied once more.
	peekBytes = 1 << 10
)

// FrameError says that a length prefix cannot be right.
type FrameError struct {
	Length int32
	Max    int32
	hint   string
}

func (e *FrameError) Error() string {
	if e.Length < 0 {
		return fmt.Sprintf("frame length %d is negative%s", e.Length, e.hint)
	}
	return fmt.Sprintf("frame length %d is over the limit of %d bytes (socket.request.max.bytes)%s", e.Length, e.Max, e.hint)
}

// newFrameError looks at the prefix for well-known strangers.
func newFrameError(prefix []byte, limit int32) *FrameError {
	e := &FrameError{Length: int32(binary.BigEndian.Uint32(prefix)), Max: limit}
	switch s := string(prefix[:prefixBytes]); {
	case prefix[0] == 0x16 && prefix[1] == 0x03:
		e.hint = "; it looks like a TLS handshake: does the client use SSL on a listener without it?"
	case s == "GET " || s == "POST" || s == "HEAD" || s == "PUT ":
		e.hint = "; it looks like an HTTP request"
	case s == "SSH-":
		e.hint = "; it looks like an SSH client"
	}
	return e
}

// frameReader cuts a stream into frames. Not safe for concurrent use.
type frameReader struct {
	stream   Stream
	pools    *Pools
	limit    int32 // largest frame
	size     int   // of the read buffer
	received *atomic.Int64
	// waiting is called before the reader waits, and expired when a read deadline has
	// passed: nil means that the reader goes on.
	waiting func()
	expired func() error

	into func() []byte // target and rest, bound once
	idle func()

	buf  *Buffer // read buffer; nil while there is nothing in it and it waits
	r, w int     // unread bytes are buf.B[r:w]

	big     *Buffer // frame that does not fit, or the last one that did not
	got     int     // bytes of it that are there
	end     int     // bytes of it that big has room for
	filling bool
	trust   int  // largest frame so far, for what is allocated ahead
	large   bool // the last frame did not fit
}

// bind prepares the function values that are handed to the stream, once.
func (f *frameReader) bind() {
	f.into = f.target
	f.idle = f.rest
}

// target is where the next bytes go.
func (f *frameReader) target() []byte {
	if f.filling {
		return f.big.B[f.got:f.end]
	}
	if f.buf == nil {
		f.buf = f.pools.Get(f.size)
	}
	if f.r == f.w {
		f.r, f.w = 0, 0
		if f.large {
			return f.buf.B[:peekBytes]
		}
	}
	return f.buf.B[f.w:f.size]
}

// rest is called before the stream waits.
func (f *frameReader) rest() {
	if f.buf != nil && f.r == f.w && !f.filling {
		f.pools.Put(f.buf)
		f.buf, f.r, f.w = nil, 0, 0
	}
	f.waiting()
}

// buffered reports whether a whole small frame is there, so that next does not
// wait.
func (f *frameReader) buffered() bool {
	if f.w-f.r < prefixBytes {
		return false
	}
	n := int32(binary.BigEndian.Uint32(f.buf.B[f.r:]))
	return n >= 0 && f.w-f.r-prefixBytes >= int(n)
}

// next returns the next frame, which is borrowed until the following call of next
// or done. At the end of the stream between two frames it is io.EOF, inside of one
// io.ErrUnexpectedEOF.
func (f *frameReader) next() ([]byte, error) {
	f.done()
	if err := f.need(prefixBytes); err != nil {
		return nil, err
	}
	prefix := f.buf.B[f.r:f.w]
	n := int32(binary.BigEndian.Uint32(prefix))
	if n < 0 || n > f.limit {
		return nil, newFrameError(prefix, f.limit)
	}
	total := prefixBytes + int(n)
	if total > f.size {
		return f.nextLarge(int(n))
	}
	if err := f.need(total); err != nil {
		return nil, err
	}
	f.large = false
	frame := f.buf.B[f.r+prefixBytes : f.r+total : f.r+total]
	f.r += total
	return frame, nil
}

// done gives back the buffer of a large frame.
func (f *frameReader) done() {
	if f.big != nil {
		f.pools.Put(f.big)
		f.big = nil
	}
}

// close gives back all buffers.
func (f *frameReader) close() {
	f.done()
	f.pools.Put(f.buf)
	f.buf, f.r, f.w = nil, 0, 0
}

// need reads until n bytes are in the read buffer, which has room for them.
func (f *frameReader) need(n int) error {
	for f.w-f.r < n {
		if f.buf != nil && f.r > 0 && f.r+n > f.size {
			f.w = copy(f.buf.B, f.buf.B[f.r:f.w])
			f.r = 0
		}
		got, err := f.receive()
		f.w += got
		if err != nil && f.w-f.r < n {
			if errors.Is(err, io.EOF) && f.w > f.r {
				return io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// nextLarge reads a frame of n bytes, of which the first are in the read buffer,
// into a buffer of its own.
func (f *frameReader) nextLarge(n int) ([]byte, error) {
	head := f.buf.B[f.r+prefixBytes : f.w]
	f.grow(n, max(newcomerBytes, min(f.trust, trustedBytes)))
	f.got = copy(f.big.B, head)
	f.r, f.w = 0, 0
	f.filling = true
	defer func() { f.filling = false }()
	for f.got < n {
		if f.got == f.end {
			f.grow(n, 2*f.got)
		}
		got, err := f.receive()
		f.got += got
		if err != nil && f.got < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	f.trust = max(f.trust, n)
	f.large = true
	return f.big.B[:n:n], nil
}

// grow makes room for size of the n bytes of the frame, keeping what is there.
func (f *frameReader) grow(n, size int) {
	b := f.pools.Get(min(n, size))
	if f.big != nil {
		copy(b.B, f.big.B[:f.got])
		f.pools.Put(f.big)
	}
	f.big = b
	f.end = min(n, len(b.B))
}

func (f *frameReader) receive() (int, error) {
	for {
		n, err := f.stream.Receive(f.into, f.idle)
		if n > 0 {
			f.received.Add(int64(n))
			return n, nil // an error with bytes comes again
		}
		if err == nil {
			return 0, io.ErrNoProgress
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err := f.expired(); err != nil {
			return 0, err
		}
	}
}
