package transporttest

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
)

// patience is how long the suite waits for what must happen; it is never waited
// for when all is well.
const patience = 2 * time.Minute

// env is what a case runs in.
type env struct {
	*testing.T
	opts      Options
	transport core.Transport
	ledger    *ledger
}

// ledger sees that every reply is released exactly once.
type ledger struct {
	t        *testing.T
	made     atomic.Int64
	released atomic.Int64
}

// reply makes a reply that is counted.
func (l *ledger) reply(parts ...core.Part) *core.Reply {
	l.made.Add(1)
	var done atomic.Bool
	return &core.Reply{Parts: parts, Done: func(*core.Reply) {
		if done.Swap(true) {
			l.t.Error("a reply was released twice")
		}
		l.released.Add(1)
	}}
}

// bytes is a reply of a copy of b.
func (l *ledger) bytes(b []byte) *core.Reply {
	return l.reply(core.Part{Bytes: bytes.Clone(b)})
}

// handler is a core.Handler and its sessions.
type handler struct {
	e      *env
	open   func(peer core.Peer) error
	serve  func(ctx context.Context, frame []byte, w core.ReplyWriter) error
	opened atomic.Int64
	closed atomic.Int64
	served atomic.Int64
}

type session struct {
	h       *handler
	closed  atomic.Bool
	serving atomic.Bool
}

// Open implements core.Handler.
func (h *handler) Open(_ context.Context, peer core.Peer) (core.ClientSession, error) {
	if h.open != nil {
		if err := h.open(peer); err != nil {
			return nil, err
		}
	}
	h.opened.Add(1)
	return &session{h: h}, nil
}

// Serve implements core.ClientSession.
func (s *session) Serve(ctx context.Context, frame []byte, w core.ReplyWriter) error {
	if s.serving.Swap(true) {
		s.h.e.Error("Serve was called while another one ran")
	}
	defer s.serving.Store(false)
	if s.closed.Load() {
		s.h.e.Error("Serve was called after Close")
	}
	s.h.served.Add(1)
	return s.h.serve(ctx, frame, w)
}

// Close implements core.ClientSession.
func (s *session) Close() {
	if s.serving.Load() {
		s.h.e.Error("Close was called while Serve ran")
	}
	if s.closed.Swap(true) {
		s.h.e.Error("Close was called twice")
	}
	s.h.closed.Add(1)
}

// echo answers each frame with itself.
func (e *env) echo() *handler {
	return &handler{e: e, serve: func(ctx context.Context, frame []byte, w core.ReplyWriter) error {
		if err := w.Barrier(ctx); err != nil {
			return err
		}
		w.Reply(e.ledger.bytes(frame))
		return nil
	}}
}

// listen starts a listener. At the end of the case it is closed, and everything
// must have been settled.
func (e *env) listen(h *handler, change func(*core.ListenerConfig)) core.Listener {
	e.Helper()
	cfg := core.ListenerConfig{
		Name: "TEST", Address: e.opts.Address, Protocol: "PLAINTEXT",
		MaxRequestBytes: 1 << 20, SendBuffer: -1, ReceiveBuffer: -1,
	}
	if change != nil {
		change(&cfg)
	}
	l, err := e.transport.Listen(e.Context(), cfg, h)
	if err != nil {
		e.Fatalf("Listen: %v", err)
	}
	e.Cleanup(func() {
		if err := l.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
		if n := l.Stats().Open; n != 0 {
			e.Errorf("%d connections are open after Close", n)
		}
		if o, c := h.opened.Load(), h.closed.Load(); o != c {
			e.Errorf("%d sessions were opened and %d closed", o, c)
		}
		if m, r := e.ledger.made.Load(), e.ledger.released.Load(); m != r {
			e.Errorf("%d replies were made and %d released", m, r)
		}
	})
	return l
}

// dial connects through the transport.
func (e *env) dial(l core.Listener) core.Conn {
	e.Helper()
	c, err := e.transport.Dial(e.Context(), l.Addr().String(), core.ListenerConfig{SendBuffer: -1, ReceiveBuffer: -1})
	if err != nil {
		e.Fatalf("Dial: %v", err)
	}
	e.Cleanup(func() { _ = c.Close() })
	return c
}

// raw connects to the bytes.
func (e *env) raw(l core.Listener) net.Conn {
	e.Helper()
	c, err := e.opts.DialRaw(e.Context(), e.transport, l.Addr().String())
	if err != nil {
		e.Fatalf("DialRaw: %v", err)
	}
	e.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		e.Fatalf("SetDeadline: %v", err)
	}
	return c
}

func (e *env) send(c core.Conn, frame []byte) {
	e.Helper()
	if err := c.WriteFrame(e.Context(), core.Part{Bytes: frame}); err != nil {
		e.Fatalf("WriteFrame of %d bytes: %v", len(frame), err)
	}
}

func (e *env) receive(c core.Conn) []byte {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	b, err := c.ReadFrame(ctx, nil)
	if err != nil {
		e.Fatalf("ReadFrame: %v", err)
	}
	return b
}

func (e *env) expect(c core.Conn, want []byte) {
	e.Helper()
	if got := e.receive(c); !bytes.Equal(got, want) {
		e.Fatalf("received a frame of %d bytes %.40q, want %d bytes %.40q", len(got), got, len(want), want)
	}
}

// expectEnd sees that the server closes the connection without another frame.
func (e *env) expectEnd(c core.Conn) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	defer cancel()
	if b, err := c.ReadFrame(ctx, nil); err == nil {
		e.Fatalf("received a frame of %d bytes, want the end of the connection", len(b))
	} else if ctx.Err() != nil {
		e.Fatalf("the connection did not end: %v", err)
	}
}

// write writes raw bytes.
func (e *env) write(c net.Conn, b []byte) {
	e.Helper()
	if _, err := c.Write(b); err != nil {
		e.Fatalf("write of %d raw bytes: %v", len(b), err)
	}
}

// frame puts the length in front of a body.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// prefix is a length without a frame.
func prefix(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// readFrame reads a frame from raw bytes.
func (e *env) readFrame(c net.Conn) []byte {
	e.Helper()
	var p [4]byte
	if _, err := io.ReadFull(c, p[:]); err != nil {
		e.Fatalf("read the length of a reply: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint32(p[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		e.Fatalf("read a reply of %d bytes: %v", len(b), err)
	}
	return b
}

// rawEnd sees that the server closes a raw connection, and returns what came
// before.
func (e *env) rawEnd(c net.Conn) []byte {
	e.Helper()
	b, err := io.ReadAll(c)
	if os.IsTimeout(err) {
		e.Fatalf("the connection was not closed: %v", err)
	}
	return b
}

// works sees that a connection is in order.
func (e *env) works(c core.Conn) {
	e.Helper()
	e.send(c, []byte("still here"))
	e.expect(c, []byte("still here"))
}

// eventually waits for a condition.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			e.Fatalf("did not happen: %s", what)
		}
	}
}

// after waits for a channel.
func after[T any](e *env, what string, ch <-chan T) T {
	e.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		e.Fatalf("did not happen: %s", what)
		panic("unreachable")
	}
}

// pattern is n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(n) | 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
