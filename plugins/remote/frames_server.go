package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// Frames serves a plugin's partitioners by frames.
type Frames struct {
	s   *Server
	lis net.Listener
	log *slog.Logger
	ctx context.Context //nolint:containedctx // of all calls; Close ends it
	end context.CancelFunc
	wg  sync.WaitGroup
}

// ListenFrames serves the partitioners by frames on a new socket at path as well, and
// lets Describe say so: call it before anything is served. Who may open the socket may ask,
// so path lies in a directory that is the broker's alone. Close the result.
func (s *Server) ListenFrames(path string) (*Frames, error) {
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for frames: %w", err)
	}
	f := &Frames{s: s, lis: lis, log: s.o.Log}
	f.ctx, f.end = context.WithCancel(context.Background())
	s.frames = path
	f.wg.Go(f.accept)
	return f, nil
}

// Close ends the calls and the connections, and waits for them.
func (f *Frames) Close() {
	f.end()
	_ = f.lis.Close() // it is gone then, whatever it says
	f.wg.Wait()
}

func (f *Frames) accept() {
	for {
		conn, err := f.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, it may be: others are served meanwhile.
			f.log.Warn("cannot take a connection for frames", "error", err)
			select {
			case <-f.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		f.wg.Go(func() {
			stop := context.AfterFunc(f.ctx, func() { _ = conn.Close() })
			defer stop()
			c := &frameServerConn{f: f, conn: conn, in: bufio.NewReaderSize(conn, frameBuffer)}
			c.dog.c = c
			defer c.dog.stop()
			defer func() { _ = conn.Close() }() // whoever asks is gone or told nonsense
			if err := c.serve(); err != nil {
				f.log.Debug("a connection for frames has ended", "error", err)
			}
		})
	}
}

const acceptPause = 100 * time.Millisecond

// frameServerConn is one connection, on which one question follows another.
type frameServerConn struct {
	f        *Frames
	conn     net.Conn
	in       *bufio.Reader
	question []byte
	answer   []byte
	dog      watchdog
}

func (c *frameServerConn) serve() error {
	for {
		var err error
		if c.question, err = readFrame(c.in, c.question, maxQuestion); err != nil {
			return err
		}
		number, method, body := openFrame(c.question)
		reply, err := c.call(method, body)
		c.answer = beginFrame(c.answer, number, byte(codes.OK))
		if err == nil {
			c.answer, err = proto.MarshalOptions{}.MarshalAppend(c.answer, reply)
		}
		if err != nil {
			s := status.Convert(toStatus(err))
			text := s.Message()
			c.answer = append(beginFrame(c.answer, number, byte(s.Code())), text[:min(len(text), maxText)]...)
		}
		if _, err = c.conn.Write(endFrame(c.answer)); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
}

// maxText bounds the text of an error, which any question's answer has room for.
const maxText = 4 << 10

// call answers one question. Its context ends when the other side closes the connection.
func (c *frameServerConn) call(method byte, body []byte) (proto.Message, error) {
	ctx, cancel := context.WithCancel(c.f.ctx)
	defer cancel()
	c.dog.begin(cancel)
	defer c.dog.end()
	p := c.f.s.partitioners
	switch method {
	case framePartition:
		return answer(ctx, c.f.log, pb.Partitioner_Partition_FullMethodName, body, &pb.PartitionRequest{}, p.Partition)
	case framePartitionKeys:
		return answer(ctx, c.f.log, pb.Partitioner_PartitionKeys_FullMethodName, body, &pb.PartitionKeysRequest{}, p.PartitionKeys)
	default:
		return nil, status.Errorf(codes.Unimplemented, "frames have no method %d", method)
	}
}

// answer decodes a question and calls; a panic is an error of the call.
func answer[Q, R proto.Message](ctx context.Context, log *slog.Logger, method string, body []byte, question Q, call func(context.Context, Q) (R, error)) (proto.Message, error) {
	if err := proto.Unmarshal(body, question); err != nil {
		return nil, status.Errorf(codes.Internal, "a question that is no message: %v", err)
	}
	reply, err := Guard(log)(ctx, question, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
		return call(ctx, question)
	})
	if err != nil {
		return nil, err
	}
	m, ok := reply.(proto.Message)
	if !ok {
		return nil, status.Errorf(codes.Internal, "a %T is no message", reply)
	}
	return m, nil
}
