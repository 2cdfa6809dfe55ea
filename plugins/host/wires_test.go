package host_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	pb "github.com/millrace/millrace/plugins/proto/v0"
	"github.com/millrace/millrace/plugins/remote"
	"github.com/millrace/millrace/sdk/plugin"
)

// held is a gRPC stream that is held open, on which questions and answers take turns.
const held = "/wires/Partition"

// serveWires serves one partitioner on the path as gRPC does, unary and by a stream, and
// by frames beside it, until its standard input ends.
func serveWires(path string) int {
	log := slog.New(slog.DiscardHandler)
	server, err := plugin.NewServer(log, plugin.Partitioner("p", "", struct{}{},
		func(context.Context, core.Env, struct{}) (*partitioners.Murmur2Partitioner, error) {
			return partitioners.NewMurmur2(partitioners.Options{}), nil
		}))
	if err != nil {
		return 1
	}
	if _, err = server.Configure(context.Background(), &pb.ConfigureRequest{Seam: pb.Seam_SEAM_PARTITIONER, Component: "p"}); err != nil {
		return 1
	}
	if _, err = server.ListenFrames(path + ".f"); err != nil {
		return 1
	}
	g := grpc.NewServer(plugin.ServerOptions(log)...)
	server.Register(g)
	var s partitionerOf
	server.Register(&s)
	g.RegisterService(&grpc.ServiceDesc{ServiceName: "wires", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Partition", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				var q pb.PartitionRequest
				if err := stream.RecvMsg(&q); err != nil {
					return err
				}
				reply, err := s.Partition(stream.Context(), &q)
				if err != nil {
					return err
				}
				if err := stream.SendMsg(reply); err != nil {
					return err
				}
			}
		},
	}}}, nil)
	lis, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	if err != nil {
		return 1
	}
	fmt.Println("ready")
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // its end
		g.Stop()
	}()
	if err := g.Serve(lis); err != nil {
		return 1
	}
	return 0
}

// partitionerOf takes the service that a server registers.
type partitionerOf struct{ pb.PartitionerServer }

// RegisterService implements grpc.ServiceRegistrar.
func (p *partitionerOf) RegisterService(_ *grpc.ServiceDesc, impl any) {
	if s, ok := impl.(pb.PartitionerServer); ok {
		p.PartitionerServer = s
	}
}

// BenchmarkWires asks one partitioner in a process of its own about 1,000 keys, and about
// one, by each way there is, in turns of ten calls: what docs/decisions/0007 chooses by. The deadline and
// all else that the broker adds is not in it, see BenchmarkPartitioner.
func BenchmarkWires(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	path := b.TempDir() + "/s"
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), self)
	cmd.Env = []string{modeEnv + "=wires", "HOST_TEST_FILE=" + path}
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	frames := remote.NewFramed(conn, path+".f", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(b.Context())
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, held)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		frames.Close()
		for _, err := range []error{conn.Close(), in.Close(), cmd.Wait()} {
			if err != nil {
				b.Error(err)
			}
		}
	})
	const n, turn = 1000, 10
	records, topic, _ := batch(n)
	many := &pb.PartitionRequest{Component: "p", Topic: topic.Name, Leaders: make([]int32, len(topic.Partitions)), Count: n}
	for _, r := range records {
		many.Keys, many.KeyLengths = append(many.Keys, r.Key...), append(many.KeyLengths, int32(len(r.Key)))
	}
	one := &pb.PartitionRequest{Component: "p", Producer: 1, Topic: topic.Name, Leaders: many.Leaders, Count: 1, Keys: records[0].Key, KeyLengths: many.KeyLengths[:1]}
	ways := []struct {
		name      string
		ask       func(*pb.PartitionRequest) (*pb.PartitionReply, error)
		many, one time.Duration
	}{
		{name: "unary", ask: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
			return pb.NewPartitionerClient(conn).Partition(ctx, q)
		}},
		{name: "stream", ask: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
			if err := stream.SendMsg(q); err != nil {
				return nil, err
			}
			reply := &pb.PartitionReply{}
			return reply, stream.RecvMsg(reply)
		}},
		{name: "frames", ask: func(q *pb.PartitionRequest) (*pb.PartitionReply, error) {
			return pb.NewPartitionerClient(frames).Partition(ctx, q)
		}},
	}
	for b.Loop() {
		for i := range ways {
			w := &ways[i]
			begin := time.Now()
			for range turn {
				if reply, err := w.ask(many); err != nil || len(reply.Partitions) != n {
					b.Fatal(w.name, err)
				}
			}
			middle := time.Now()
			for range turn {
				if reply, err := w.ask(one); err != nil || len(reply.Partitions) != 1 {
					b.Fatal(w.name, err)
				}
			}
			w.many, w.one = w.many+middle.Sub(begin), w.one+time.Since(middle)
		}
	}
	for _, w := range ways {
		b.ReportMetric(w.many.Seconds()*1e6/float64(b.N)/turn, w.name+"-µs")
		b.ReportMetric(w.one.Seconds()*1e6/float64(b.N)/turn, w.name+"-one-key-µs")
		b.ReportMetric(float64(w.many)/float64(ways[0].many), w.name+"/unary")
	}
}
