package remote_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/retention"
)

// everything offers one component of each seam.
func everything(t testing.TB) []plugin.Option {
	t.Helper()
	builtin, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return []plugin.Option{
		offer("sticky", partitioners.NewSticky), offer("murmur2", partitioners.NewMurmur2),
		plugin.Retention("time-size", "", struct{}{}, func(context.Context, core.Env, struct{}) (retention.TimeSize, error) {
			return retention.TimeSize{}, nil
		}),
		plugin.Compressor("gzip", "", record.Gzip, true, struct{}{}, func(context.Context, core.Env, struct{}) (core.Compressor, error) {
			return builtin[record.Gzip], nil
		}),
	}
}

func configureAll(t testing.TB, conn *grpc.ClientConn) {
	t.Helper()
	configure(t, conn, pb.Seam_SEAM_PARTITIONER, "sticky", nil)
	configure(t, conn, pb.Seam_SEAM_PARTITIONER, "murmur2", nil)
	configure(t, conn, pb.Seam_SEAM_RETENTION, "time-size", nil)
	configure(t, conn, pb.Seam_SEAM_COMPRESSION, "gzip", nil)
}

// TestServerRefuses: requests that make no sense are refused with a status that tells the
// broker whose mistake it is, and the next good one is served.
func TestServerRefuses(t *testing.T) {
	t.Parallel()
	conn := serve(t, everything(t)...)
	ctx := t.Context()
	part, ret, comp, plug := pb.NewPartitionerClient(conn), pb.NewRetentionClient(conn), pb.NewCompressionClient(conn), pb.NewPluginClient(conn)
	partition := func(q *pb.PartitionRequest) func() error {
		return func() error { _, err := part.Partition(ctx, q); return err }
	}
	keys := func(q *pb.PartitionKeysRequest) func() error {
		return func() error { _, err := part.PartitionKeys(ctx, q); return err }
	}
	decide := func(q *pb.DecideRequest) func() error {
		return func() error { _, err := ret.Decide(ctx, q); return err }
	}
	good := func() *pb.PartitionRequest {
		return &pb.PartitionRequest{Component: "murmur2", Topic: "t", Count: 2, Leaders: []int32{1, 2}, Keys: []byte("ab"), KeyLengths: []int32{1, 1}}
	}
	if err := partition(good())(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("not configured: %v", err)
	}
	configureAll(t, conn)
	bad := func(change func(*pb.PartitionRequest)) func() error {
		q := good()
		change(q)
		return partition(q)
	}
	cfg := []*pb.TopicConfig{{}}
	for name, c := range map[string]struct {
		call func() error
		want codes.Code
	}{
		"unknown component":     {bad(func(q *pb.PartitionRequest) { q.Component = "nobody" }), codes.FailedPrecondition},
		"count too large":       {bad(func(q *pb.PartitionRequest) { q.Count = math.MaxUint32 }), codes.InvalidArgument},
		"count too small":       {bad(func(q *pb.PartitionRequest) { q.Count = 1 }), codes.InvalidArgument},
		"keys too short":        {bad(func(q *pb.PartitionRequest) { q.Keys = q.Keys[:1] }), codes.InvalidArgument},
		"length too large":      {bad(func(q *pb.PartitionRequest) { q.KeyLengths[1] = math.MaxInt32 }), codes.InvalidArgument},
		"values missing":        {bad(func(q *pb.PartitionRequest) { q.ValueLengths = []int32{0} }), codes.InvalidArgument},
		"values too short":      {bad(func(q *pb.PartitionRequest) { q.ValueLengths = []int32{0, 1} }), codes.InvalidArgument},
		"headers missing":       {bad(func(q *pb.PartitionRequest) { q.Headers = []*pb.Headers{{}} }), codes.InvalidArgument},
		"available too short":   {bad(func(q *pb.PartitionRequest) { q.Available = []bool{true} }), codes.InvalidArgument},
		"no partitions":         {bad(func(q *pb.PartitionRequest) { q.Leaders = nil }), codes.InvalidArgument},
		"keys: none configured": {keys(&pb.PartitionKeysRequest{Component: "nobody", Partitions: 1}), codes.FailedPrecondition},
		"keys: no partitions":   {keys(&pb.PartitionKeysRequest{Component: "murmur2"}), codes.InvalidArgument},
		"keys: too many":        {keys(&pb.PartitionKeysRequest{Component: "murmur2", Partitions: math.MaxUint32}), codes.InvalidArgument},
		"keys: too short":       {keys(&pb.PartitionKeysRequest{Component: "murmur2", Partitions: 1, Keys: []byte("a"), KeyLengths: []int32{2}}), codes.InvalidArgument},
		"logs: configuration":   {decide(&pb.DecideRequest{Component: "time-size", Logs: []*pb.LogView{{Topic: "t", Config: 1}}, Configs: cfg}), codes.InvalidArgument},
		"logs: columns":         {decide(&pb.DecideRequest{Component: "time-size", Logs: []*pb.LogView{{Topic: "t", SegmentBase: []int64{1}}}, Configs: cfg}), codes.InvalidArgument},
		"logs: unknown":         {decide(&pb.DecideRequest{Component: "nobody"}), codes.FailedPrecondition},
		"compress: unknown": {func() error {
			_, err := comp.Compress(ctx, &pb.CompressRequest{Component: "nobody"})
			return err
		}, codes.FailedPrecondition},
		"decompress: garbage": {func() error {
			_, err := comp.Decompress(ctx, &pb.DecompressRequest{Component: "gzip", Data: []byte("no gzip")})
			return err
		}, codes.DataLoss},
		"configure: unknown": {func() error {
			_, err := plug.Configure(ctx, &pb.ConfigureRequest{Seam: pb.Seam_SEAM_RETENTION, Component: "nobody"})
			return err
		}, codes.InvalidArgument},
		"configure: no such seam": {func() error {
			_, err := plug.Configure(ctx, &pb.ConfigureRequest{Seam: 77, Component: "murmur2"})
			return err
		}, codes.InvalidArgument},
	} {
		if err := c.call(); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	reply, err := part.Partition(ctx, good())
	if err != nil || len(reply.Partitions) != 2 {
		t.Fatalf("a good request after the bad ones: %v %v", reply, err)
	}
}

// TestConfigureTwice: the second settings count, and no producer keeps the first.
func TestConfigureTwice(t *testing.T) {
	t.Parallel()
	type settings struct {
		To int `setting:"test.to" doc:"Where all go."`
	}
	conn := serve(t, plugin.Partitioner("fixed", "", settings{}, func(_ context.Context, _ core.Env, s settings) (fixed, error) {
		return fixed{int32(s.To)}, nil
	}))
	c := pb.NewPartitionerClient(conn)
	for _, to := range []string{"1", "2"} {
		configure(t, conn, pb.Seam_SEAM_PARTITIONER, "fixed", map[string]string{"test.to": to})
		for producer := range uint64(2) {
			reply, err := c.Partition(t.Context(), &pb.PartitionRequest{
				Component: "fixed", Producer: producer, Topic: "t", Count: 1, KeyLengths: []int32{-1}, Leaders: []int32{0, 0, 0},
			})
			if err != nil || reply.Partitions[0] != int32(to[0]-'0') {
				t.Fatalf("with test.to=%s: %v %v", to, reply, err)
			}
		}
	}
}

type fixed struct{ to int32 }

func (f fixed) Partition(_ context.Context, _ core.TopicInfo, _ []core.RecordView, out []int32) error {
	for i := range out {
		out[i] = f.to
	}
	return nil
}

// FuzzServer: no request makes a plugin's server panic, or answer another number of
// partitions than it was asked for. Guard, which would hide a panic, is not there.
func FuzzServer(f *testing.F) {
	seed := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(uint8(0), seed(&pb.PartitionRequest{Component: "murmur2", Count: 1, Leaders: []int32{1}, Keys: []byte("a"), KeyLengths: []int32{1}}))
	f.Add(uint8(0), seed(&pb.PartitionRequest{Component: "sticky", Count: 2, KeyLengths: []int32{-1, 0}, Leaders: []int32{-1, 3}, Available: []bool{false, true}}))
	f.Add(uint8(0), seed(&pb.PartitionRequest{Component: "sticky", Count: 1, KeyLengths: []int32{-1}, Closed: []*pb.ClosedBatch{{Topic: "t", Partition: -7}}}))
	f.Add(uint8(0), seed(&pb.PartitionRequest{Component: "murmur2", Count: 1, KeyLengths: []int32{math.MaxInt32}, Leaders: []int32{0}}))
	f.Add(uint8(1), seed(&pb.PartitionKeysRequest{Component: "murmur2", Partitions: 1 << 31, KeyLengths: []int32{0}}))
	f.Add(uint8(1), seed(&pb.PartitionKeysRequest{Component: "murmur2", Partitions: 3, KeyLengths: []int32{1, -1}, Keys: []byte("a")}))
	f.Add(uint8(2), seed(&pb.DecideRequest{Component: "time-size", Configs: []*pb.TopicConfig{{RetentionBytes: 1, RetentionMs: math.MinInt64}}, Logs: []*pb.LogView{{
		Topic: "t", End: 9, HighWatermark: 9, SegmentBase: []int64{0, 5}, SegmentEnd: []int64{5, 9}, SegmentBytes: []int64{-1, math.MaxInt64},
		SegmentFirstTimestamp: []int64{0, 0}, SegmentMaxTimestamp: []int64{0, math.MinInt64}, SegmentMaxTimestampOffset: []int64{0, 0}, SegmentModifiedMs: []int64{0, 0},
	}}}))
	f.Add(uint8(3), seed(&pb.DecompressRequest{Component: "gzip", Data: []byte{0x1f, 0x8b}, Limit: math.MaxUint64}))
	server, err := plugin.NewServer(slog.New(slog.DiscardHandler), append(everything(f), plugin.Program("test", "1"))...)
	if err != nil {
		f.Fatal(err)
	}
	var s services
	server.Register(&s)
	for _, c := range []*pb.ConfigureRequest{
		{Seam: pb.Seam_SEAM_PARTITIONER, Component: "sticky"}, {Seam: pb.Seam_SEAM_PARTITIONER, Component: "murmur2"},
		{Seam: pb.Seam_SEAM_RETENTION, Component: "time-size"}, {Seam: pb.Seam_SEAM_COMPRESSION, Component: "gzip"},
	} {
		if _, err := server.Configure(f.Context(), c); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, wire []byte) {
		switch kind % 4 {
		case 0:
			var q pb.PartitionRequest
			if proto.Unmarshal(wire, &q) != nil {
				return
			}
			if reply, err := s.partitioner.Partition(t.Context(), &q); err == nil && len(reply.Partitions) != int(q.Count) {
				t.Fatalf("%d answers for %d records", len(reply.Partitions), q.Count)
			}
		case 1:
			var q pb.PartitionKeysRequest
			if proto.Unmarshal(wire, &q) != nil {
				return
			}
			if reply, err := s.partitioner.PartitionKeys(t.Context(), &q); err == nil && len(reply.Partitions) != len(q.KeyLengths) {
				t.Fatalf("%d answers for %d keys", len(reply.Partitions), len(q.KeyLengths))
			}
		case 2:
			var q pb.DecideRequest
			if proto.Unmarshal(wire, &q) != nil {
				return
			}
			reply, err := s.retention.Decide(t.Context(), &q)
			for _, d := range reply.GetDecisions() {
				if err != nil || int(d.Log) >= len(q.Logs) {
					t.Fatalf("a decision about log %d of %d (%v)", d.Log, len(q.Logs), err)
				}
			}
		default:
			var q pb.DecompressRequest
			if proto.Unmarshal(wire, &q) != nil {
				return
			}
			q.Limit = min(q.Limit, 1<<20) // the broker always has one
			if reply, err := s.compression.Decompress(t.Context(), &q); err == nil && q.Limit > 0 && uint64(len(reply.Data)) > q.Limit {
				t.Fatalf("%d bytes with a limit of %d", len(reply.Data), q.Limit)
			}
		}
	})
}

// services takes what a server registers, to call it without a connection.
type services struct {
	partitioner pb.PartitionerServer
	retention   pb.RetentionServer
	compression pb.CompressionServer
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *services) RegisterService(_ *grpc.ServiceDesc, impl any) {
	switch impl := impl.(type) {
	case pb.PartitionerServer:
		s.partitioner = impl
	case pb.RetentionServer:
		s.retention = impl
	case pb.CompressionServer:
		s.compression = impl
	}
}

// fake is a plugin that answers what a test wants.
type fake struct {
	pb.UnimplementedPartitionerServer
	pb.UnimplementedRetentionServer
	partition func(*pb.PartitionRequest) (*pb.PartitionReply, error)
	keys      func(*pb.PartitionKeysRequest) (*pb.PartitionKeysReply, error)
	decide    func(*pb.DecideRequest) (*pb.DecideReply, error)
	rule      func(*pb.RuleRequest) (*pb.RuleReply, error)
}

func (f *fake) Partition(_ context.Context, q *pb.PartitionRequest) (*pb.PartitionReply, error) {
	return f.partition(q)
}

func (f *fake) PartitionKeys(_ context.Context, q *pb.PartitionKeysRequest) (*pb.PartitionKeysReply, error) {
	return f.keys(q)
}

func (f *fake) Decide(_ context.Context, q *pb.DecideRequest) (*pb.DecideReply, error) {
	return f.decide(q)
}

func (f *fake) Rule(_ context.Context, q *pb.RuleRequest) (*pb.RuleReply, error) { return f.rule(q) }

// link counts what the client says of the plugin.
type link struct {
	remote.Direct
	lies, fallbacks atomic.Int32
}

func (l *link) Lied(remote.Name, error)     { l.lies.Add(1) }
func (l *link) FellBack(remote.Name, error) { l.fallbacks.Add(1) }

// dial serves a fake.
func dial(t testing.TB, f *fake) *link {
	t.Helper()
	g := grpc.NewServer()
	pb.RegisterPartitionerServer(g, f)
	pb.RegisterRetentionServer(g, f)
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	conn, err := grpc.NewClient("unix:"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close() // nothing is lost with it
		g.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return &link{Direct: remote.Direct{Conn: conn}}
}

// two records and a topic with three partitions.
func two() ([]core.RecordView, core.TopicInfo) {
	return []core.RecordView{
			{Key: []byte("a"), Value: []byte("one"), Headers: []core.HeaderView{{Key: "h", Value: []byte("x")}}},
			{Value: []byte("two")},
		},
		core.TopicInfo{Name: "t", Partitions: []core.PartitionInfo{{Leader: 1, Available: true}, {Leader: 2}, {Leader: 3, Available: true}}}
}

// TestPartitionerLies: an answer that makes no sense is counted, and the fallback places.
func TestPartitionerLies(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	for name, answer := range map[string][]int32{
		"none": nil, "too few": {1}, "too many": {1, 1, 1}, "out of range": {1, 3}, "negative": {-1, 0}, "smallest": {math.MinInt32, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := dial(t, &fake{
				partition: func(*pb.PartitionRequest) (*pb.PartitionReply, error) {
					return &pb.PartitionReply{Partitions: answer}, nil
				},
				keys: func(*pb.PartitionKeysRequest) (*pb.PartitionKeysReply, error) {
					return &pb.PartitionKeysReply{Partitions: []int32{-2, 0}}, nil
				},
			})
			o := remote.PartitionerOptions{Link: l, Component: "x", Capabilities: []remote.Capability{remote.KeyOnly}, Clock: core.SystemClock{}}
			out := []int32{0, 0}
			if err := remote.NewPartitioner(o).Partition(t.Context(), topic, rs, out); !errors.Is(err, remote.ErrNonsense) {
				t.Errorf("without a fallback: %v", err)
			}
			o.Fallback = fixed{2}
			p := remote.NewPartitioner(o)
			if err := p.Partition(t.Context(), topic, rs, out); err != nil || !slices.Equal(out, []int32{2, 2}) {
				t.Errorf("with a fallback: %v %v", out, err)
			}
			if l.lies.Load() != 2 || l.fallbacks.Load() != 1 {
				t.Errorf("%d lies, %d fallbacks", l.lies.Load(), l.fallbacks.Load())
			}
			many, ok := p.(core.KeyBatches)
			if !ok {
				t.Fatal("no core.KeyBatches")
			}
			err := many.PartitionKeys(t.Context(), "t", [][]byte{{1}, {2}}, 3, out)
			if !errors.Is(err, remote.ErrNonsense) || !slices.Equal(out, []int32{-1, -1}) {
				t.Errorf("keys: %v %v", out, err)
			}
		})
	}
}

// TestRuleLies: a rule that names a partition too many, or a hash that nobody knows, is not followed, and the plugin is
// asked.
func TestRuleLies(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	for _, places := range []*pb.Places{{Partitions: []uint32{3}}, {Partitions: []uint32{math.MaxUint32}}, {All: true, Hash: -1}, {All: true, Hash: 3}} {
		l := dial(t, &fake{
			rule: func(*pb.RuleRequest) (*pb.RuleReply, error) {
				return &pb.RuleReply{Rule: &pb.Rule{Others: places}}, nil
			},
			partition: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
				return &pb.PartitionReply{Partitions: make([]int32, q.Count)}, nil
			},
		})
		p := remote.NewPartitioner(remote.PartitionerOptions{Link: l, Component: "x", Capabilities: []remote.Capability{remote.Rules}, Clock: core.SystemClock{}})
		out := []int32{7, 7}
		if err := p.Partition(t.Context(), topic, rs, out); err != nil || !slices.Equal(out, []int32{0, 0}) || l.lies.Load() != 1 {
			t.Errorf("%v: %v %v, %d lies", places, out, err, l.lies.Load())
		}
	}
}

// TestAskedFor: values and headers are sent to those that want them; closed batches are
// told with the next call, and once.
func TestAskedFor(t *testing.T) {
	t.Parallel()
	rs, topic := two()
	for _, caps := range [][]remote.Capability{nil, {remote.Values}, {remote.Headers}, {remote.Values, remote.Headers, remote.Batches}} {
		var got []*pb.PartitionRequest
		l := dial(t, &fake{partition: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
			got = append(got, q)
			return &pb.PartitionReply{Partitions: make([]int32, q.Count)}, nil
		}})
		p := remote.NewPartitioner(remote.PartitionerOptions{Link: l, Component: "x", Capabilities: caps, Producer: 5, Clock: core.SystemClock{}})
		o, observes := p.(core.BatchObserver)
		if observes != slices.Contains(caps, remote.Batches) {
			t.Fatalf("%v: observer %v", caps, observes)
		}
		if observes {
			o.OnBatch("t", 2)
		}
		for range 2 {
			if err := p.Partition(t.Context(), topic, rs, make([]int32, 2)); err != nil {
				t.Fatal(err)
			}
		}
		q := got[0]
		if values := slices.Contains(caps, remote.Values); values != (string(q.Values) == "onetwo") || values != (len(q.ValueLengths) == 2) {
			t.Errorf("%v: values %q %v", caps, q.Values, q.ValueLengths)
		}
		if headers := slices.Contains(caps, remote.Headers); headers != (len(q.Headers) == 2) {
			t.Errorf("%v: headers %v", caps, q.Headers)
		}
		if string(q.Keys) != "a" || !slices.Equal(q.KeyLengths, []int32{1, -1}) || q.Producer != 5 ||
			!slices.Equal(q.Leaders, []int32{1, 2, 3}) || !slices.Equal(q.Available, []bool{true, false, true}) {
			t.Errorf("%v: %v", caps, q)
		}
		if observes && (len(q.Closed) != 1 || q.Closed[0].Topic != "t" || q.Closed[0].Partition != 2) || len(got[1].Closed) != 0 {
			t.Errorf("%v: closed batches %v, then %v", caps, q.Closed, got[1].Closed)
		}
	}
}

// TestProducersApart: each producer of a sticky partitioner has its own state, which a
// closed batch moves, and which Close forgets.
func TestProducersApart(t *testing.T) {
	t.Parallel()
	built := make(chan *counting, 10)
	conn := serve(t, plugin.Partitioner("counting", "", struct{}{}, func(context.Context, core.Env, struct{}) (*counting, error) {
		c := &counting{}
		built <- c
		return c, nil
	}))
	caps := configure(t, conn, pb.Seam_SEAM_PARTITIONER, "counting", nil)
	<-built // that of Configure
	rs, topic := two()
	out := make([]int32, 2)
	open := func(producer uint64) core.Partitioner {
		return remote.NewPartitioner(remote.PartitionerOptions{
			Link: remote.Direct{Conn: conn}, Component: "counting", Capabilities: caps, Producer: producer, Clock: core.SystemClock{},
		})
	}
	place := func(p core.Partitioner) int32 {
		if err := p.Partition(t.Context(), topic, rs, out); err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	a, b := open(1), open(2)
	observer, ok := a.(core.BatchObserver)
	if !ok {
		t.Fatalf("no core.BatchObserver with %v", caps)
	}
	observer.OnBatch("t", 0)
	if first, second := place(a), place(b); first != 1 || second != 0 {
		t.Errorf("partitions %d and %d: the closed batch of one producer is not its own", first, second)
	}
	if place(a) != 1 {
		t.Error("one producer did not keep its state")
	}
	c, ok := a.(interface{ Close() error })
	if !ok {
		t.Fatal("it cannot be closed")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if place(a) != 0 || len(built) != 3 {
		t.Errorf("a closed producer was not forgotten; %d were built", len(built))
	}
}

// counting places by the number of closed batches.
type counting struct{ closed int32 }

func (c *counting) Partition(_ context.Context, _ core.TopicInfo, _ []core.RecordView, out []int32) error {
	for i := range out {
		out[i] = c.closed
	}
	return nil
}

func (c *counting) OnBatch(string, int32) { c.closed++ }

// TestKeysSideBySide: one slow answer about keys does not hold up another question: a
// guard asks for all partitions of the broker with one partitioner.
func TestKeysSideBySide(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	l := dial(t, &fake{keys: func(q *pb.PartitionKeysRequest) (*pb.PartitionKeysReply, error) {
		both.Done()
		both.Wait() // no answer before both have come
		return &pb.PartitionKeysReply{Partitions: make([]int32, len(q.KeyLengths))}, nil
	}})
	p, ok := remote.NewPartitioner(remote.PartitionerOptions{
		Link: l, Component: "x", Capabilities: []remote.Capability{remote.KeyOnly}, Clock: core.SystemClock{},
	}).(core.KeyBatches)
	if !ok {
		t.Fatal("no core.KeyBatches")
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if err := p.PartitionKeys(t.Context(), "t", [][]byte{{1}}, 3, []int32{0}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestRetentionLies: a decision about a log that was not asked about lets none be
// followed; IgnoresCommits and the committed offsets follow the capability.
func TestRetentionLies(t *testing.T) {
	t.Parallel()
	logs := []core.LogView{{TopicPartition: core.TopicPartition{Topic: "t"}, End: 9, HighWatermark: 5, Committed: map[string]int64{"g": 3}}}
	for _, c := range []struct {
		name      string
		decisions []*pb.Decision
		err       bool
		lies      int32
	}{
		{"fine", []*pb.Decision{{Log: 0, Start: 5}}, false, 0},
		{"another log", []*pb.Decision{{Log: 0, Start: 1}, {Log: 1, Start: 1}}, true, 1},
		{"no log at all", []*pb.Decision{{Log: math.MaxUint32}}, true, 1},
		{"past the high watermark", []*pb.Decision{{Log: 0, Start: 6}}, false, 1},
		{"twice the same", []*pb.Decision{{Log: 0, Start: 5}, {Log: 0, Start: 5}}, false, 0},
		{"two minds", []*pb.Decision{{Log: 0, Start: 5}, {Log: 0, Start: 1}}, true, 1},
	} {
		for _, caps := range [][]remote.Capability{nil, {remote.Committed}} {
			var committed atomic.Int32
			l := dial(t, &fake{decide: func(q *pb.DecideRequest) (*pb.DecideReply, error) {
				committed.Store(int32(len(q.Logs[0].Committed)))
				return &pb.DecideReply{Decisions: c.decisions}, nil
			}})
			r := remote.NewRetention(remote.RetentionOptions{Link: l, Component: "x", Capabilities: caps})
			got, err := r.Decide(t.Context(), logs)
			if c.err != errors.Is(err, remote.ErrNonsense) || c.lies > 0 && len(got) > 0 || l.lies.Load() != c.lies {
				t.Errorf("%s: %v, %v, %d lies", c.name, got, err, l.lies.Load())
			}
			wants := len(caps) > 0
			if wants != (committed.Load() == 1) {
				t.Errorf("%v: %d committed offsets were sent", caps, committed.Load())
			}
			if i, ok := r.(core.IgnoresCommits); !ok || i.IgnoresCommits() == wants {
				t.Errorf("%v: IgnoresCommits is wrong", caps)
			}
		}
	}
}
