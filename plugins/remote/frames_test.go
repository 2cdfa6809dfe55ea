package remote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/partitioners/partitionertest"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/sdk/plugin"
)

// noGRPC fails every call, so that what is answered was answered by frames.
type noGRPC struct{ grpc.ClientConnInterface }

var errNoGRPC = status.Error(codes.DataLoss, "asked by gRPC")

func (noGRPC) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return errNoGRPC }

// framed serves partitioners by frames alone, configured.
func framed(t testing.TB, names []string, opts ...plugin.Option) (conn *remote.Framed, path string) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := plugin.NewServer(log, append(opts, plugin.Program("test", "1"))...)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "f")
	f, err := server.ListenFrames(path)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := server.Describe(t.Context(), nil); err != nil || d.Frames != path {
		t.Fatalf("described: %v %v", d, err)
	}
	for _, name := range names {
		if r, err := server.Configure(t.Context(), &pb.ConfigureRequest{Seam: pb.Seam_SEAM_PARTITIONER, Component: name}); err != nil || len(r.Problems) > 0 {
			t.Fatal(r, err)
		}
	}
	conn = remote.NewFramed(noGRPC{}, path, log)
	t.Cleanup(func() {
		conn.Close()
		f.Close()
	})
	return conn, path
}

func TestPartitionersByFrames(t *testing.T) {
	t.Parallel()
	producers := &remote.Producers{}
	for name, c := range map[string]struct {
		option       plugin.Option
		capabilities []remote.Capability
	}{
		"murmur2": {offer("murmur2", partitioners.NewMurmur2), []remote.Capability{remote.KeyOnly, remote.Batches}},
		"sticky":  {offer("sticky", partitioners.NewSticky), []remote.Capability{remote.Batches}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := framed(t, []string{name}, c.option)
			partitionertest.Run(t, partitionertest.Options{New: func(testing.TB) core.Partitioner {
				return remote.NewPartitioner(remote.PartitionerOptions{
					Link: remote.Direct{Conn: conn}, Component: name, Capabilities: c.capabilities,
					Producer: producers.Next(), Clock: core.SystemClock{},
				})
			}})
		})
	}
}

// behaves is a partitioner that does what a test wants.
type behaves struct {
	do func(ctx context.Context, out []int32) error
}

func (b behaves) Partition(ctx context.Context, _ core.TopicInfo, _ []core.RecordView, out []int32) error {
	return b.do(ctx, out)
}

func behaving(name string, do func(ctx context.Context, out []int32) error) plugin.Option {
	return plugin.Partitioner(name, "", struct{}{}, func(context.Context, core.Env, struct{}) (behaves, error) {
		return behaves{do}, nil
	})
}

// TestFrameErrors: what a call fails with is the same by frames as by gRPC, and the next
// call is served.
func TestFrameErrors(t *testing.T) {
	t.Parallel()
	fail := make(chan func() error, 1)
	conn, _ := framed(t, []string{"x"}, behaving("x", func(context.Context, []int32) error { return (<-fail)() }))
	c := pb.NewPartitionerClient(conn)
	q := func() *pb.PartitionRequest {
		return &pb.PartitionRequest{Component: "x", Topic: "t", Count: 1, Leaders: []int32{1}, KeyLengths: []int32{-1}}
	}
	for name, want := range map[string]struct {
		do   func() error
		code codes.Code
		text string
	}{
		"refused": {func() error { return errors.New("not in the mood") }, codes.Unknown, "not in the mood"},
		"panic":   {func() error { panic("no idea") }, codes.Internal, "no idea"},
		"invalid": {func() error { return core.ErrInvalidConfig }, codes.InvalidArgument, ""},
		"a book":  {func() error { return errors.New(strings.Repeat("x", 1<<20)) }, codes.Unknown, strings.Repeat("x", 1000)},
		"nothing": {func() error { return nil }, codes.OK, ""},
	} {
		fail <- want.do
		if _, err := c.Partition(t.Context(), q()); status.Code(err) != want.code || err != nil && !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := q()
	bad.Count = 7
	if _, err := c.Partition(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
		t.Errorf("columns of other lengths: %v", err)
	}
	if _, err := c.PartitionKeys(t.Context(), &pb.PartitionKeysRequest{Component: "nobody"}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("not configured: %v", err)
	}
}

// TestFrameGone: the context of a call in the plugin ends when the broker no longer waits;
// another call goes on meanwhile, and its answer is its own.
func TestFrameGone(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan error, 1)
	conn, _ := framed(t, []string{"slow", "quick"},
		behaving("slow", func(ctx context.Context, _ []int32) error {
			close(begun)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}),
		behaving("quick", func(context.Context, []int32) error { return nil }))
	c := pb.NewPartitionerClient(conn)
	q := func(component string) *pb.PartitionRequest {
		return &pb.PartitionRequest{Component: component, Topic: "t", Count: 1, Leaders: []int32{1}, KeyLengths: []int32{-1}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Partition(ctx, q("slow")); status.Code(err) != codes.Canceled {
			t.Errorf("a cancelled call: %v", err)
		}
	})
	<-begun
	for range 3 {
		if _, err := c.Partition(t.Context(), q("quick")); err != nil {
			t.Errorf("beside a slow call: %v", err)
		}
	}
	cancel()
	wg.Wait()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("in the plugin: %v", err)
	}
	if _, err := c.Partition(t.Context(), q("quick")); err != nil {
		t.Errorf("after a cancelled call: %v", err)
	}
	if _, err := c.Partition(ctx, q("quick")); status.Code(err) != codes.Canceled {
		t.Errorf("with a context that is over: %v", err)
	}
}

// TestFrameServerRefuses: whoever sends what is no frame is cut off, and nobody else is.
func TestFrameServerRefuses(t *testing.T) {
	t.Parallel()
	conn, path := framed(t, []string{"murmur2"}, offer("murmur2", partitioners.NewMurmur2))
	frame := func(number uint32, method byte, message string) []byte {
		f := binary.BigEndian.AppendUint32(nil, uint32(5+len(message)))
		return append(append(binary.BigEndian.AppendUint32(f, number), method), message...)
	}
	for name, c := range map[string]struct {
		send []byte
		code codes.Code // of the answer; OK is none
	}{
		"no length":  {[]byte{0, 0}, codes.OK},
		"no number":  {[]byte{0, 0, 0, 4, 1, 2, 3, 4}, codes.OK},
		"too long":   {[]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5}, codes.OK},
		"cut off":    {frame(1, 1, "hello")[:10], codes.OK},
		"2 GB to be": {[]byte{0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5}, codes.OK},
		"no method":  {frame(7, 99, ""), codes.Unimplemented},
		"no message": {frame(8, 1, "\xff\xff\xff"), codes.Internal},
	} {
		raw, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = raw.Write(c.send); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if u, ok := raw.(*net.UnixConn); ok {
			if err = u.CloseWrite(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := io.ReadAll(raw)
		if c.code == codes.OK {
			if len(got) > 0 {
				t.Errorf("%s: answered %x (%v)", name, got, err)
			}
		} else if err != nil || len(got) < 9 || codes.Code(got[8]) != c.code || !slices.Equal(got[4:8], c.send[4:8]) {
			t.Errorf("%s: answered %x (%v)", name, got, err)
		}
		_ = raw.Close() // nothing is lost with it
	}
	if _, err := pb.NewPartitionerClient(conn).PartitionKeys(t.Context(), &pb.PartitionKeysRequest{Component: "murmur2", Partitions: 1}); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// liar serves frames by hand: answer makes all that is sent after a question with the
// given number.
func liar(t testing.TB, answer func(number uint32) []byte) (path string, questions *atomic.Int32) {
	t.Helper()
	path, questions = filepath.Join(t.TempDir(), "f"), &atomic.Int32{}
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	serve := func(conn net.Conn) {
		defer func() { _ = conn.Close() }()
		head := make([]byte, 8)
		for {
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head))-4); err != nil {
				return
			}
			questions.Add(1)
			b := answer(binary.BigEndian.Uint32(head[4:]))
			if b == nil {
				return
			}
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = lis.Close()
		wg.Wait()
	})
	return path, questions
}

// reply is a whole answer.
func reply(t testing.TB, number uint32, partitions ...int32) []byte {
	t.Helper()
	m, err := proto.Marshal(&pb.PartitionReply{Partitions: partitions})
	if err != nil {
		t.Error(err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(5+len(m)))
	return append(append(binary.BigEndian.AppendUint32(b, number), 0), m...)
}

// TestFramesBreak: frames that make no sense are not used again: gRPC is asked, at once and
// from then on.
func TestFramesBreak(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	for name, answer := range map[string]func(number uint32) []byte{
		"the end":             func(uint32) []byte { return nil },
		"too large":           func(uint32) []byte { return []byte{0x7f, 0, 0, 0, 0, 0, 0, 1, 0} },
		"empty":               func(uint32) []byte { return make([]byte, 4) },
		"of another question": func(n uint32) []byte { return reply(t, n+1, 0, 0) },
		"no message":          func(n uint32) []byte { return append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 6}, n), 0, 0xff) },
		"the one before": func(n uint32) []byte {
			if n == 1 {
				return append(reply(t, 1, 2, 2), reply(t, 1, 0, 0)...)
			}
			return []byte{}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, questions := liar(t, answer)
			var asked atomic.Int32
			l := dial(t, &fake{partition: func(*pb.PartitionRequest) (*pb.PartitionReply, error) {
				asked.Add(1)
				return &pb.PartitionReply{Partitions: []int32{2, 2}}, nil
			}})
			log := &strings.Builder{}
			conn := remote.NewFramed(l.Conn, path, slog.New(slog.NewTextHandler(log, nil)))
			defer conn.Close()
			l.Conn = conn
			p := remote.NewPartitioner(remote.PartitionerOptions{Link: l, Component: "x", Clock: core.SystemClock{}})
			for range 4 {
				out := []int32{0, 0}
				if err := p.Partition(t.Context(), topic, rs, out); err != nil || !slices.Equal(out, []int32{2, 2}) {
					t.Fatalf("placed at %v: %v", out, err)
				}
			}
			good := int32(0)
			if name == "the one before" {
				good = 1 // the first was fine
			}
			if asked.Load() != 4-good || questions.Load() != 1+good || strings.Count(log.String(), "frames broke") != 1 {
				t.Errorf("%d calls by gRPC, %d by frames: %s", asked.Load(), questions.Load(), log)
			}
		})
	}
}

// TestFramesLie: answers by frames are judged as those by gRPC are.
func TestFramesLie(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	for name, answer := range map[string][]int32{"none": nil, "too few": {1}, "too many": {1, 1, 1}, "out of range": {1, 3}, "negative": {-1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, _ := liar(t, func(n uint32) []byte { return reply(t, n, answer...) })
			conn := remote.NewFramed(noGRPC{}, path, slog.New(slog.DiscardHandler))
			defer conn.Close()
			l := &link{Direct: remote.Direct{Conn: conn}}
			p := remote.NewPartitioner(remote.PartitionerOptions{Link: l, Component: "x", Fallback: fixed{2}, Clock: core.SystemClock{}})
			out := []int32{0, 0}
			if err := p.Partition(t.Context(), topic, rs, out); err != nil || !slices.Equal(out, []int32{2, 2}) || l.lies.Load() != 1 || l.fallbacks.Load() != 1 {
				t.Errorf("%v %v, %d lies, %d fallbacks", out, err, l.lies.Load(), l.fallbacks.Load())
			}
		})
	}
}

// TestFrameLate: an answer that comes when nobody waits any more is not that of the next
// call, which has a connection of its own.
func TestFrameLate(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	waits, late := make(chan struct{}), make(chan struct{})
	first := atomic.Bool{}
	path, _ := liar(t, func(n uint32) []byte {
		if first.CompareAndSwap(false, true) {
			close(waits)
			<-late
			return reply(t, n, 0, 0)
		}
		return reply(t, n, 1, 1)
	})
	conn := remote.NewFramed(noGRPC{}, path, slog.New(slog.DiscardHandler))
	defer conn.Close()
	p := remote.NewPartitioner(remote.PartitionerOptions{Link: remote.Direct{Conn: conn}, Component: "x", Clock: core.SystemClock{}})
	ctx, cancel := context.WithCancel(t.Context())
	out := []int32{7, 7}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Partition(ctx, topic, rs, out); status.Code(err) != codes.Canceled {
			t.Errorf("a cancelled call: %v", err)
		}
	})
	<-waits
	// A call that waits for its turn gives up with its own context.
	over, done := context.WithCancel(t.Context())
	done()
	if err := p.Partition(over, topic, rs, []int32{0, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that waits: %v", err)
	}
	cancel()
	wg.Wait()
	close(late)
	if !slices.Equal(out, []int32{7, 7}) {
		t.Errorf("a cancelled call placed records: %v", out)
	}
	if err := p.Partition(t.Context(), topic, rs, out); err != nil || !slices.Equal(out, []int32{1, 1}) {
		t.Errorf("the next call: %v %v", out, err)
	}
}

// TestFramesFull: calls for which there is no connection left go by gRPC.
func TestFramesFull(t *testing.T) {
	t.Parallel()
	const most = 16
	var begun sync.WaitGroup
	begun.Add(most)
	wait := make(chan struct{})
	path, _ := liar(t, func(n uint32) []byte {
		begun.Done()
		<-wait
		return reply(t, n)
	})
	conn := remote.NewFramed(noGRPC{}, path, slog.New(slog.DiscardHandler))
	c := pb.NewPartitionerClient(conn)
	var wg sync.WaitGroup
	for range most {
		wg.Go(func() {
			if _, err := c.Partition(t.Context(), &pb.PartitionRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	begun.Wait()
	if _, err := c.Partition(t.Context(), &pb.PartitionRequest{}); !errors.Is(err, errNoGRPC) {
		t.Errorf("one call more: %v", err)
	}
	conn.Close() // lets them finish
	close(wait)
	wg.Wait()
	if _, err := c.Partition(t.Context(), &pb.PartitionRequest{}); !errors.Is(err, errNoGRPC) {
		t.Errorf("after Close: %v", err)
	}
}

// TestSlowBuild: a producer whose partitioner takes long to be built keeps no other.
func TestSlowBuild(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var built atomic.Int32
	conn := serve(t, plugin.Partitioner("x", "", struct{}{}, func(context.Context, core.Env, struct{}) (fixed, error) {
		if built.Add(1) == 2 { // the first is Configure's
			close(begun)
			<-goOn
		}
		return fixed{0}, nil
	}))
	configure(t, conn, pb.Seam_SEAM_PARTITIONER, "x", nil)
	c := pb.NewPartitionerClient(conn)
	ask := func(ctx context.Context, producer uint64) error {
		_, err := c.Partition(ctx, &pb.PartitionRequest{Component: "x", Producer: producer, Topic: "t", Count: 1, KeyLengths: []int32{-1}, Leaders: []int32{0}})
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ask(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
	<-begun
	if err := ask(t.Context(), 2); err != nil {
		t.Error(err)
	}
	close(goOn)
	wg.Wait()
}

// TestOnBatchWaitsForNobody: a batch may be closed while a call is under way, and the next
// call tells of it.
func TestOnBatchWaitsForNobody(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	begun, goOn := make(chan struct{}), make(chan struct{})
	var told []int
	l := dial(t, &fake{partition: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
		told = append(told, len(q.Closed))
		if len(told) == 1 {
			close(begun)
			<-goOn
			return nil, status.Error(codes.InvalidArgument, "no")
		}
		return &pb.PartitionReply{Partitions: make([]int32, q.Count)}, nil
	}})
	p := remote.NewPartitioner(remote.PartitionerOptions{Link: l, Component: "x", Capabilities: []remote.Capability{remote.Batches}, Clock: core.SystemClock{}})
	o, ok := p.(core.BatchObserver)
	if !ok {
		t.Fatal("no core.BatchObserver")
	}
	o.OnBatch("t", 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := p.Partition(t.Context(), topic, rs, make([]int32, 2)); err == nil {
			t.Error("it was refused, and nobody says so")
		}
	})
	<-begun
	o.OnBatch("t", 1)
	close(goOn)
	wg.Wait()
	for range 2 {
		if err := p.Partition(t.Context(), topic, rs, make([]int32, 2)); err != nil {
			t.Fatal(err)
		}
	}
	// What the call that failed was told is told again, with what came meanwhile.
	if !slices.Equal(told, []int{1, 2, 0}) {
		t.Errorf("closed batches told: %v", told)
	}
}
