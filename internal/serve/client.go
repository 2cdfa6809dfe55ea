package serve

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/core"
)

const (
	clientBuffer = 16 << 10
	// clientAhead is how much of an announced response is allocated before the bytes
	// are there.
	clientAhead = 1 << 20
)

// clientConn implements core.Conn.
type clientConn struct {
	raw net.Conn

	wmu  sync.Mutex
	send sender
	sent atomic.Int64

	rmu sync.Mutex
	br  *bufio.Reader

	closeOnce sync.Once
	closed    atomic.Bool
	closeErr  error
}

// NewConn makes a core.Conn of a connection that was dialled. It reads from raw
// and writes to stream, which is the same connection.
//
// A call whose context ends in the middle of a frame closes the connection, for
// nobody could tell where the next frame begins. A ReadFrame that ends before the
// first byte of its response leaves it usable.
func NewConn(raw net.Conn, stream Stream, pools *Pools) core.Conn {
	c := &clientConn{raw: raw, br: bufio.NewReaderSize(raw, clientBuffer)}
	c.send = sender{stream: stream, pools: pools, sent: &c.sent}
	c.send.files, _ = stream.(FileSender)
	return c
}

// WriteFrame implements core.Conn.
func (c *clientConn) WriteFrame(ctx context.Context, parts ...core.Part) error {
	r := core.Reply{Parts: parts}
	defer r.Release()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.closed.Load() {
		return fmt.Errorf("write a frame to %s: %w", c.raw.RemoteAddr(), core.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// A write that has begun is of no use when it stops half way: the connection goes
	// with it, which also ends a write that waits.
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	_, err := c.send.frame(parts, r.Len(), false)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write a frame to %s: %w", c.raw.RemoteAddr(), err), c.Close())
	}
	return nil
}

// ReadFrame implements core.Conn.
func (c *clientConn) ReadFrame(ctx context.Context, buf []byte) ([]byte, error) {
	c.rmu.Lock()
	defer c.rmu.Unlock()
	if c.closed.Load() {
		return nil, fmt.Errorf("read a frame from %s: %w", c.raw.RemoteAddr(), core.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0)) // fails when closed, as the read will
		close(interrupted)
	})
	frame, begun, err := c.read(buf[:0])
	if !stop() {
		<-interrupted
		if e := c.raw.SetReadDeadline(time.Time{}); err == nil && e != nil {
			err = e
		}
		if err != nil {
			err = context.Cause(ctx)
		}
		if err != nil && !begun {
			return nil, err
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read a frame from %s: %w", c.raw.RemoteAddr(), err), c.Close())
	}
	return frame, nil
}

// read reads one frame; begun says whether anything of it was consumed.
func (c *clientConn) read(buf []byte) (frame []byte, begun bool, err error) {
	prefix, err := c.br.Peek(prefixBytes)
	if err != nil {
		if len(prefix) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, false, err
	}
	n := int(int32(binary.BigEndian.Uint32(prefix)))
	if n < 0 {
		return nil, true, newFrameError(prefix, 0)
	}
	if _, err := c.br.Discard(prefixBytes); err != nil {
		return nil, true, err
	}
	for len(buf) < n {
		have := len(buf)
		if cap(buf) == have {
			buf = slices.Grow(buf, min(n-have, max(clientAhead, have)))
		}
		buf = buf[:min(n, cap(buf))]
		if _, err := io.ReadFull(c.br, buf[have:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, true, err
		}
	}
	return buf, true, nil
}

// RemoteAddr implements core.Conn.
func (c *clientConn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Close implements core.Conn. It is safe to call twice.
func (c *clientConn) Close() error {
	c.closeOnce.Do(func() {
		c.closed.Store(true)
		c.closeErr = c.raw.Close()
	})
	return c.closeErr
}
