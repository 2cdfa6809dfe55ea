package remote_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/partitioners/partitionertest"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/plugins/rule"
	"github.com/millrace/millrace/sdk/plugin"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/compression/compressiontest"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// serve serves what a plugin would over a real socket, and connects to it.
func serve(t testing.TB, opts ...plugin.Option) *grpc.ClientConn {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := plugin.NewServer(log, append(opts, plugin.Program("test", "1"))...)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(plugin.ServerOptions(log)...)
	server.Register(g)
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	conn, err := grpc.NewClient("unix:"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
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
	return conn
}

// configure makes a component ready and returns what the plugin says of it.
func configure(t testing.TB, conn *grpc.ClientConn, seam pb.Seam, name string, settings map[string]string) []remote.Capability {
	t.Helper()
	c := pb.NewPluginClient(conn)
	reply, err := c.Configure(t.Context(), &pb.ConfigureRequest{Seam: seam, Component: name, Settings: settings})
	if err != nil || len(reply.Problems) > 0 {
		t.Fatalf("configure %s: %v %v", name, reply, err)
	}
	d, err := c.Describe(t.Context(), &pb.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, comp := range d.Components {
		if comp.Seam == seam && comp.Name == name {
			var caps []remote.Capability
			for _, s := range comp.Capabilities {
				caps = append(caps, remote.Capability(s))
			}
			return caps
		}
	}
	t.Fatalf("%s is not described", name)
	return nil
}

// offer makes a plugin's partitioner of a built-in one.
func offer[P core.Partitioner](name string, build func(partitioners.Options) P) plugin.Option {
	return plugin.Partitioner(name, "", struct{}{}, func(context.Context, core.Env, struct{}) (P, error) {
		return build(partitioners.Options{}), nil
	})
}

func TestPartitioners(t *testing.T) {
	t.Parallel()
	producers := &remote.Producers{}
	for name, o := range map[string]plugin.Option{
		"murmur2":           offer("murmur2", partitioners.NewMurmur2),
		"sticky":            offer("sticky", partitioners.NewSticky),
		"round-robin":       offer("round-robin", partitioners.NewRoundRobin),
		"consistent":        offer("consistent", partitioners.NewConsistent),
		"consistent_random": offer("consistent_random", partitioners.NewConsistentRandom),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := serve(t, o)
			caps := configure(t, conn, pb.Seam_SEAM_PARTITIONER, name, nil)
			partitionertest.Run(t, partitionertest.Options{New: func(testing.TB) core.Partitioner {
				return remote.NewPartitioner(remote.PartitionerOptions{
					Link: remote.Direct{Conn: conn}, Component: name, Capabilities: caps, Producer: producers.Next(), Clock: core.SystemClock{},
				})
			}})
		})
	}
}

// byRule is murmur2 that publishes itself as a rule, and knows how often it was asked.
type byRule struct {
	*partitioners.Murmur2Partitioner
}

func (byRule) Rule(context.Context, string, int32) (*rule.Rule, time.Duration, error) {
	return &rule.Rule{Others: rule.Places{All: true, Hash: rule.Murmur2}}, time.Minute, nil
}

func TestRulePartitioner(t *testing.T) {
	t.Parallel()
	conn := serve(t, plugin.Partitioner("ruled", "", struct{}{}, func(context.Context, core.Env, struct{}) (byRule, error) {
		return byRule{partitioners.NewMurmur2(partitioners.Options{})}, nil
	}))
	caps := configure(t, conn, pb.Seam_SEAM_PARTITIONER, "ruled", nil)
	if !slices.Contains(caps, remote.Rules) {
		t.Fatalf("capabilities %v", caps)
	}
	producers := &remote.Producers{}
	open := func() core.Partitioner {
		return remote.NewPartitioner(remote.PartitionerOptions{
			Link: remote.Direct{Conn: conn}, Component: "ruled", Capabilities: caps, Producer: producers.Next(), Clock: core.SystemClock{},
		})
	}
	partitionertest.Run(t, partitionertest.Options{New: func(testing.TB) core.Partitioner { return open() }})
	own, there := partitioners.NewMurmur2(partitioners.Options{}), open()
	keyed, ok := there.(core.KeyOnly)
	if !ok {
		t.Fatal("a rule decides by the key alone")
	}
	for i := range 1000 {
		key := fmt.Appendf(nil, "key-%d", i)
		if got, want := keyed.PartitionKey(key, 13), own.PartitionKey(key, 13); got != want {
			t.Fatalf("key %s: partition %d by rule, %d in process", key, got, want)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	conn := serve(t, plugin.Retention("time-size", "", struct{}{}, func(context.Context, core.Env, struct{}) (retention.TimeSize, error) {
		return retention.TimeSize{}, nil
	}))
	caps := configure(t, conn, pb.Seam_SEAM_RETENTION, "time-size", nil)
	open := func(*testing.T) core.Retention {
		return remote.NewRetention(remote.RetentionOptions{Link: remote.Direct{Conn: conn}, Component: "time-size", Capabilities: caps})
	}
	retentiontest.Run(t, open, retentiontest.Options{SegmentAligned: true, Independent: true})
	// What crosses the wire is what was sent: both decide alike.
	views := retentiontest.Views(7, 500)
	near, err := retention.TimeSize{}.Decide(t.Context(), views)
	if err != nil {
		t.Fatal(err)
	}
	far, err := open(t).Decide(t.Context(), views)
	if err != nil || !slices.Equal(near, far) {
		t.Fatalf("%d decisions in process, %d over the wire (%v)", len(near), len(far), err)
	}
}

func TestCompression(t *testing.T) {
	t.Parallel()
	builtin, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	// One whose framing depends on the magic of the records, and one whose does not: what
	// crosses the wire is alike for the others. The codecs are flipped through, bit by bit,
	// where they are; TestBomb has the large bomb.
	for _, codec := range []record.Codec{record.Gzip, record.LZ4} {
		t.Run(codec.String(), func(t *testing.T) {
			t.Parallel()
			c := compressor(t, builtin[codec])
			compressiontest.Run(t, func(*testing.T) core.Compressor { return c }, compressiontest.Options{FlipEvery: 17, Bomb: 8 << 20})
		})
	}
}

// compressor is a built-in one, served over a socket.
func compressor(t *testing.T, builtin core.Compressor) core.Compressor {
	t.Helper()
	codec := builtin.Codec()
	conn := serve(t, plugin.Compressor("c", "", codec, true, struct{}{}, func(context.Context, core.Env, struct{}) (core.Compressor, error) {
		return builtin, nil
	}))
	caps := configure(t, conn, pb.Seam_SEAM_COMPRESSION, "c", nil)
	return remote.NewCompressor(remote.CompressorOptions{
		Link: remote.Direct{Conn: conn}, Component: "c", Capabilities: caps, Codec: codec, Builtin: builtin, Trust: true,
	})
}

// TestBomb has both sides in one process, and counts what it allocates: it is not
// parallel.
func TestBomb(t *testing.T) {
	compressiontest.Bomb(t, compressor(t, compression.NewGzip()))
}
