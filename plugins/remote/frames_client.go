package remote

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Framed is a connection to a plugin whose partitioners are asked by frames, and
// everything else by gRPC. A call is the same by either: it ends with its context, and
// its errors are gRPC's. Safe for concurrent use.
//
// What frames cannot do gRPC does: a call for which there is no connection left, and,
// once a connection broke, that call again and all that come later. The plugin's death is
// so found out by gRPC.
type Framed struct {
	grpc.ClientConnInterface
	path string
	log  *slog.Logger

	mu   sync.Mutex
	idle []*frameConn            // the last one is used first
	busy int                     // connections of calls that are under way
	used map[*frameConn]struct{} // those of them that are connected
	off  bool                    // broken, or closed
	dead bool                    // the process is
}

// NewFramed makes a connection of conn and the socket at path that the plugin has named
// for frames. Close it before conn.
func NewFramed(conn grpc.ClientConnInterface, path string, log *slog.Logger) *Framed {
	return &Framed{ClientConnInterface: conn, path: path, log: log, used: map[*frameConn]struct{}{}}
}

// frameConn is one connection. Its buffers are used again.
type frameConn struct {
	net.Conn
	in       *bufio.Reader
	number   uint32 // of the last question
	question []byte
	answer   []byte
}

// Close closes what is idle; connections in use are closed after their calls. Calls go
// by gRPC afterwards. Safe to call twice.
func (f *Framed) Close() {
	f.mu.Lock()
	idle := f.idle
	f.idle, f.off = nil, true
	f.mu.Unlock()
	for _, c := range idle {
		_ = c.Close() // nothing is lost with it
	}
}

// Abort closes everything, once the plugin's process is dead: what it has started may
// hold the other ends, and no call is to wait for that. Safe to call twice.
func (f *Framed) Abort() {
	f.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for c := range f.used {
		_ = c.Close() // its call ends with that
	}
}

// connected takes note of a connection of a call; false when it comes too late.
func (f *Framed) connected(c *frameConn, conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return false
	}
	c.Conn, c.in = conn, bufio.NewReaderSize(conn, frameBuffer)
	f.used[c] = struct{}{}
	return true
}

// Invoke implements grpc.ClientConnInterface.
func (f *Framed) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	number := frameMethod(method)
	question, ok := args.(proto.Message)
	answer, okay := reply.(proto.Message)
	if number == 0 || !ok || !okay {
		return f.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	}
	broken := error(nil)
	if c, ok := f.take(); ok {
		s, err := f.call(ctx, c, number, question, answer)
		switch {
		case err == nil:
			return s.Err()
		case ctx.Err() != nil:
			return status.FromContextError(ctx.Err()).Err()
		}
		broken = err
		f.Close()
		proto.Reset(answer)
	}
	err := f.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	if err == nil && broken != nil { // it lives, so this is its mistake
		f.log.Warn("the plugin's frames broke; its partitioners are asked by gRPC from now on, which takes longer", "error", broken)
	}
	return err
}

// take gives a connection, to be dialled when it is new; false when there is none to be
// had. Give it back.
func (f *Framed) take() (*frameConn, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off || f.busy == maxFrames {
		return nil, false
	}
	f.busy++
	last := len(f.idle) - 1
	if last < 0 {
		return &frameConn{}, true
	}
	c := f.idle[last]
	f.idle = f.idle[:last]
	f.used[c] = struct{}{}
	return c, true
}

// give takes a connection back, to be used again when it is whole.
func (f *Framed) give(c *frameConn, whole bool) {
	f.mu.Lock()
	f.busy--
	delete(f.used, c)
	whole = whole && !f.off
	if whole {
		f.idle = append(f.idle, c)
	}
	f.mu.Unlock()
	if !whole && c.Conn != nil {
		_ = c.Close() // what may still come is thrown away with it
	}
}

// call asks on a connection, which it gives back, and answers the plugin's status. An
// error is that of the connection, or the end of ctx.
func (f *Framed) call(ctx context.Context, c *frameConn, method byte, question, answer proto.Message) (*status.Status, error) {
	whole := false
	defer func() { f.give(c, whole) }()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.Conn == nil {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", f.path)
		if err != nil {
			return nil, fmt.Errorf("connect to the plugin's frames: %w", err)
		}
		if !f.connected(c, conn) {
			_ = conn.Close() // nothing was asked
			return nil, fmt.Errorf("connect to the plugin's frames: %w", net.ErrClosed)
		}
	}
	stop := context.AfterFunc(ctx, func() {
		_ = c.SetDeadline(time.Unix(0, 1)) // it ends at once; a closed one has ended
	})
	s, err := c.ask(method, question, answer)
	// Where the deadline was set, or is being set, nobody can use it again.
	whole = stop() && err == nil
	return s, err
}

func (c *frameConn) ask(method byte, question, answer proto.Message) (*status.Status, error) {
	c.number++
	frame, err := proto.MarshalOptions{}.MarshalAppend(beginFrame(c.question, c.number, method), question)
	if err != nil {
		return nil, fmt.Errorf("encode a question: %w", err)
	}
	c.question = frame
	if len(frame) > maxQuestion {
		return nil, fmt.Errorf("a question of %d bytes is more than a frame can have", len(frame))
	}
	if _, err = c.Write(endFrame(frame)); err != nil {
		return nil, fmt.Errorf("write a question of %d bytes: %w", len(frame), err)
	}
	if c.answer, err = readFrame(c.in, c.answer, maxAnswer(len(frame))); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	number, code, body := openFrame(c.answer)
	switch {
	case number != c.number:
		return nil, fmt.Errorf("%w: an answer to question %d after question %d", ErrNonsense, number, c.number)
	case codes.Code(code) != codes.OK:
		return status.New(codes.Code(code), string(body)), nil
	}
	if err = proto.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("%w: an answer that is no message: %w", ErrNonsense, err)
	}
	return status.New(codes.OK, ""), nil
}
