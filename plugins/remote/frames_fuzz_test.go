package remote

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/core"
	pb "github.com/millrace/millrace/plugins/proto/v0"
)

// stream is a connection whose other side has sent in, and reads out.
type stream struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) Close() error                { return nil }

func (s *stream) SetReadDeadline(time.Time) error { return nil }

func frame(t testing.TB, number uint32, kind byte, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{}.MarshalAppend(beginFrame(nil, number, kind), m)
	if err != nil {
		t.Fatal(err)
	}
	return endFrame(b)
}

// FuzzFrameAnswer: whatever comes back for a question, it is refused, or is a frame with the
// question's number.
func FuzzFrameAnswer(f *testing.F) {
	ok := frame(f, 1, byte(codes.OK), &pb.PartitionReply{Partitions: []int32{1, 2}})
	f.Add(ok)
	f.Add(append(ok, ok...))
	f.Add(frame(f, 2, byte(codes.OK), &pb.PartitionReply{}))
	f.Add(append(endFrame(beginFrame(nil, 1, byte(codes.Internal))), "late"...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0})
	f.Add([]byte{0, 0, 0, 4, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := &stream{in: bytes.NewReader(in)}
		c := &frameConn{Conn: conn, in: bufio.NewReader(conn)}
		var reply pb.PartitionReply
		s, err := c.ask(framePartition, &pb.PartitionRequest{Component: "p"}, &reply)
		if err != nil {
			return
		}
		got, err := readFrame(bytes.NewReader(in), nil, maxAnswer(conn.out.Len()))
		if err != nil {
			t.Fatalf("an answer %v was made of what is no frame: %v", &reply, err)
		}
		number, code, message := openFrame(got)
		if number != 1 || codes.Code(code) != s.Code() {
			t.Fatalf("status %v of the frame with number %d and code %d", s, number, code)
		}
		var want pb.PartitionReply
		if s.Code() == codes.OK && (proto.Unmarshal(message, &want) != nil || !slices.Equal(reply.Partitions, want.Partitions)) {
			t.Fatalf("partitions %v, want %v", reply.Partitions, want.Partitions)
		}
	})
}

// first puts every record on partition 0.
type first struct{}

func (first) Partition(_ context.Context, _ core.TopicInfo, _ []core.RecordView, out []int32) error {
	clear(out)
	return nil
}

// FuzzFrameQuestions: whatever comes on a connection to a plugin, every question that is a
// frame has one answer, in order and no longer than the broker reads, and nothing else is
// answered.
func FuzzFrameQuestions(f *testing.F) {
	part := &pb.PartitionRequest{Component: "first", Producer: 1, Topic: "t", Count: 2, Keys: []byte("ab"), KeyLengths: []int32{1, 1}, Leaders: []int32{0, 0}}
	keys := &pb.PartitionKeysRequest{Component: "first", Topic: "t", Partitions: 3}
	f.Add(slices.Concat(frame(f, 1, framePartition, part), frame(f, 2, framePartitionKeys, keys), frame(f, 3, 9, part)))
	f.Add(frame(f, 7, framePartition, &pb.PartitionRequest{Component: "first", Count: 1 << 30}))
	f.Add(frame(f, 7, framePartition, &pb.PartitionRequest{Component: "none"}))
	f.Add(frame(f, 1, framePartition, part)[:9])
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0xff})
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := NewServer(ServerOptions{Name: "test", Version: "1", Clock: core.SystemClock{}, Log: log, Partitioners: []Component[core.Partitioner]{{
			Factory: core.Factory[core.Partitioner]{Name: "first", New: func(context.Context, core.Env) (core.Partitioner, error) { return first{}, nil }},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s.partitioners.configured("first", nil)
		conn := &stream{in: bytes.NewReader(in)}
		c := &frameServerConn{f: &Frames{s: s, log: log, ctx: t.Context()}, conn: conn, in: bufio.NewReader(conn)}
		c.dog.c = c
		if c.serve() == nil {
			t.Fatal("it serves beyond the end")
		}
		c.dog.stop()
		questions, answers := bytes.NewReader(in), bytes.NewReader(conn.out.Bytes())
		for {
			q, err := readFrame(questions, nil, maxQuestion)
			if err != nil {
				break
			}
			asked, _, _ := openFrame(q)
			a, err := readFrame(answers, nil, maxAnswer(len(q)+frameLength))
			if err != nil {
				t.Fatalf("no answer to question %d of %d bytes: %v", asked, len(q), err)
			}
			if number, _, _ := openFrame(a); number != asked {
				t.Fatalf("answer %d to question %d", number, asked)
			}
		}
		if answers.Len() > 0 {
			t.Fatalf("%d bytes of answers to no question", answers.Len())
		}
	})
}
