package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/partitioners"
	"github.com/millrace/millrace/storage/retention"
	"github.com/millrace/millrace/storage/retention/retentiontest"
)

// batch is n records with 16-byte keys for a topic with 64 partitions.
func batch(n int) ([]core.RecordView, core.TopicInfo, []int32) {
	records := make([]core.RecordView, n)
	for i := range records {
		records[i].Key = fmt.Appendf(nil, "%016d", i*7919)
	}
	topic := core.TopicInfo{Name: "t", Partitions: make([]core.PartitionInfo, 64)}
	for i := range topic.Partitions {
		topic.Partitions[i].Available = true
	}
	return records, topic, make([]int32, n)
}

// BenchmarkPartitioner places keys in batches of 1,000 with one and the same partitioner:
// in the process, in a plugin by its rule, in a plugin that is asked by frames, by one
// producer and by two side by side, and in plugins that are asked by gRPC, with TLS and
// without. The ceiling is a bare round trip: as many bytes there and back, to a process
// that does nothing else. They take turns of ten calls, one after the other as a producer
// makes them, so that the ratios mean something on a busy machine. ns/key is what counts; a
// call with a single key, which is all overhead, stands beside it.
func BenchmarkPartitioner(b *testing.B) {
	const n, turn = 1000, 10
	asked, _ := mustOpen(b, settings(b, "good"))
	ruled, _ := mustOpen(b, settings(b, "rule"))
	grpc, _ := mustOpen(b, settings(b, "no frames"))
	tls, _ := mustOpen(b, settings(b, "good", "plugin.p.mtls=true"))
	records, topic, out := batch(n)
	first, second, single := partitioner(b, asked), partitioner(b, asked), partitioner(b, grpc)
	outs := make([]int32, n)
	place := func(p core.Partitioner, n int) func() error {
		return func() error { return p.Partition(b.Context(), topic, records[:n], out[:n]) }
	}
	cases := []struct {
		name string
		call func() error
		took time.Duration
	}{
		{name: "bare", call: bare(b, n*(16+1)+2*64, n)},
		{name: "in-process", call: place(partitioners.NewMurmur2(partitioners.Options{}), n)},
		{name: "rule", call: place(partitioner(b, ruled), n)},
		{name: "plugin", call: place(first, n)},
		{name: "plugin×2", call: func() error {
			done := make(chan error, 1)
			go func() { done <- second.Partition(b.Context(), topic, records, outs) }()
			return errors.Join(first.Partition(b.Context(), topic, records, out), <-done)
		}},
		{name: "gRPC", call: place(single, n)},
		{name: "TLS", call: place(partitioner(b, tls), n)},
		{name: "one-key", call: place(first, 1)},
		{name: "gRPC-one-key", call: place(single, 1)},
	}
	took := map[string]time.Duration{}
	for i := range cases { // rules are fetched, connections warm
		if err := cases[i].call(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for i := range cases {
			begin := time.Now()
			for range turn {
				if err := cases[i].call(); err != nil {
					b.Fatal(err)
				}
			}
			cases[i].took += time.Since(begin)
		}
	}
	for _, c := range cases {
		took[c.name] = c.took
		ns := float64(c.took.Nanoseconds()) / float64(b.N) / turn
		switch c.name {
		case "one-key", "gRPC-one-key":
			b.ReportMetric(ns/1000, c.name+"-µs")
		case "plugin×2":
			b.ReportMetric(ns/(2*n), c.name+"-ns/key")
		default:
			b.ReportMetric(ns/n, c.name+"-ns/key")
		}
	}
	for _, r := range [][2]string{{"rule", "in-process"}, {"plugin", "bare"}, {"plugin", "gRPC"}} {
		b.ReportMetric(float64(took[r[0]])/float64(took[r[1]]), r[0]+"/"+r[1])
	}
}

// bare starts a process that reads so many bytes and answers so many, and makes the call
// that does the same from this side.
func bare(b *testing.B, question, answer int) func() error {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	lis, err := (&net.ListenConfig{}).Listen(b.Context(), "unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), self) // it ends with its connection
	cmd.Env = []string{modeEnv + "=bare", "HOST_TEST_FILE=" + lis.Addr().String(), fmt.Sprintf("HOST_TEST_BYTES=%d %d", question, answer)}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	conn, err := lis.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(conn.Close(), lis.Close(), cmd.Wait()); err != nil {
			b.Error(err)
		}
	})
	out, in := make([]byte, question), make([]byte, answer)
	return func() error {
		if _, err := conn.Write(out); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, in)
		return err
	}
}

// BenchmarkRetention decides about 10,000 logs in one call, in the process and in a
// plugin in turn.
func BenchmarkRetention(b *testing.B) {
	h, _ := mustOpen(b, settings(b, "good"))
	views := retentiontest.Views(1, 10_000)
	far := policy(b, h)
	var near, there time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := (retention.TimeSize{}).Decide(b.Context(), views); err != nil {
			b.Fatal(err)
		}
		near += time.Since(begin)
		begin = time.Now()
		if _, err := far.Decide(b.Context(), views); err != nil {
			b.Fatal(err)
		}
		there += time.Since(begin)
	}
	b.ReportMetric(near.Seconds()/float64(b.N)*1000, "in-process-ms")
	b.ReportMetric(there.Seconds()/float64(b.N)*1000, "plugin-ms")
}

// BenchmarkStart starts three plugins side by side, as a broker does before everything
// else, and ends them.
func BenchmarkStart(b *testing.B) {
	s := settings(b, "good")
	for _, name := range []string{"q", "r"} {
		s["plugin."+name+".path"], s["plugin."+name+".environment"] = s["plugin.p.path"], s["plugin.p.environment"]
	}
	var started time.Duration
	for b.Loop() {
		begin := time.Now()
		h, _, err := open(b, s)
		if err != nil {
			b.Fatal(err)
		}
		started += time.Since(begin)
		h.Close()
	}
	b.ReportMetric(started.Seconds()/float64(b.N)*1000, "start-ms")
}
