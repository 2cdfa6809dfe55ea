package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxLine is the longest line that produce reads, in bytes.
const maxLine = 64 << 20

var errLineTooLong = fmt.Errorf("the line is longer than %d MiB", maxLine>>20)

// input reads lines and knows what it has read beyond the last one. It ends at line feeds
// alone, so that a carriage return stays part of its record: bytes arrive as they were
// sent. Not safe for concurrent use.
type input struct {
	from  io.Reader
	ready func(context.Context) error // waits until from has something, or ctx ends
	close func()

	buf     []byte // read, and not given out
	scanned int    // so many bytes of buf have no line feed
	ended   bool
	lines   int // given out
}

// newInput reads from r. Where r is a file the wait for it ends with ctx, and nothing is
// read from it afterwards; whatever else r is, a Read is waited for.
func newInput(ctx context.Context, r io.Reader) (*input, error) {
	in := &input{from: r, ready: func(ctx context.Context) error { return ctx.Err() }, close: func() {}}
	f, ok := r.(*os.File)
	if !ok {
		return in, nil
	}
	// The pipe is readable when its other end is closed, which wakes the wait for f.
	wake, end, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("prepare to read: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = end.Close() }) // nothing was written
	in.ready = func(ctx context.Context) error { return readable(ctx, f, wake) }
	in.close = func() {
		if stop() {
			_ = end.Close()
		}
		_ = wake.Close()
	}
	return in, nil
}

// readable waits until f or wake has something to be read, its end included.
func readable(ctx context.Context, f, wake *os.File) error {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		if fds[0].Revents != 0 {
			break
		}
	}
	return ctx.Err()
}

// next gives the next line out, without its end; it is valid until the next call. What
// has been read goes on being given out when ctx has ended, but nothing more is read; the
// error is ctx's then, and io.EOF at the end of the input.
func (in *input) next(ctx context.Context) ([]byte, error) {
	for {
		if i := bytes.IndexByte(in.buf[in.scanned:], '\n'); i >= 0 {
			return in.give(in.scanned+i, 1), nil
		}
		in.scanned = len(in.buf)
		switch {
		case in.ended && len(in.buf) > 0:
			return in.give(len(in.buf), 0), nil
		case in.ended:
			return nil, io.EOF
		case len(in.buf) > maxLine:
			return nil, errLineTooLong
		}
		if err := in.ready(ctx); err != nil {
			return nil, err
		}
		if err := in.read(); err != nil {
			return nil, err
		}
	}
}

// give cuts a line off, and so many bytes behind it.
func (in *input) give(n, more int) []byte {
	line := in.buf[:n]
	in.buf, in.scanned = in.buf[n+more:], 0
	in.lines++
	return line
}

// read reads once.
func (in *input) read() error {
	const least = 64 << 10
	if cap(in.buf)-len(in.buf) < least {
		in.buf = append(make([]byte, 0, 2*len(in.buf)+least), in.buf...)
	}
	n, err := in.from.Read(in.buf[len(in.buf):cap(in.buf)])
	in.buf = in.buf[:len(in.buf)+n]
	if errors.Is(err, io.EOF) {
		in.ended, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}
