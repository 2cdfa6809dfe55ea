package api

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/replica"
)

// stillLeader answers without work and without allocation.
type stillLeader struct {
	replica.Leader
	slice stillSlice
	wait  int64
	res   replica.FetchResult
}

func (*stillLeader) Meter() replica.Meter { return stillMeter{} }

// stillMeter and stillObserver count nothing.
type stillMeter struct{ replica.Meter }

func (stillMeter) Produced(bool)       {}
func (stillMeter) Fetched(int64, bool) {}

type stillObserver struct{}

func (stillObserver) Began()                                              {}
func (stillObserver) Dropped()                                            {}
func (stillObserver) Malformed()                                          {}
func (stillObserver) Error(kmsg.Key, int16)                               {}
func (stillObserver) Waiting(kmsg.Key)                                    {}
func (stillObserver) Waited(kmsg.Key, time.Duration)                      {}
func (stillObserver) Request(kmsg.Key, int16, time.Time, int, int, int16) {}

type stillSlice struct{}

func (*stillSlice) Len() int                              { return 64 << 10 }
func (*stillSlice) File() (*os.File, int64, bool)         { return nil, 0, false }
func (*stillSlice) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (*stillSlice) Close() error                          { return nil }

func (l *stillLeader) Append(context.Context, replica.AppendRequest) (replica.AppendResult, error) {
	return replica.AppendResult{Base: 1, LogAppendTime: -1, Wait: l.wait}, nil
}

func (l *stillLeader) Await(_ int64, _ int32, done func(error)) func() {
	done(nil)
	return nil
}

func (l *stillLeader) Fetch(context.Context, replica.FetchRequest) (replica.FetchResult, error) {
	return l.res, nil
}

// stillReplicas has one leader for all.
type stillReplicas struct{ l *stillLeader }

func (r stillReplicas) Leader(string, int32) (replica.Leader, error) { return r.l, nil }

// sink releases replies as a transport does.
type sink struct{ sent int }

func (*sink) Barrier(context.Context) error { return nil }

func (s *sink) Reply(r *core.Reply) {
	s.sent += r.Len()
	r.Release()
}

// still serves one request again and again.
func still(tb testing.TB, l *stillLeader, req kmsg.Request) (serve func()) {
	tb.Helper()
	c := newCluster(tb)
	c.options.Replicas, c.options.Observer = stillReplicas{l}, stillObserver{}
	ss := c.connect(tb)
	frame, w := frameOf(req), &sink{}
	return func() {
		if err := ss.Serve(tb.Context(), frame, w); err != nil {
			tb.Fatal(err)
		}
	}
}

// stillProduce is a Produce of n partitions.
func stillProduce(tb testing.TB, n int, acks int16) (serve func()) {
	tb.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 11, acks, 30000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = "a"
	for p := range int32(n) {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p, make([]byte, 1000)
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	return still(tb, &stillLeader{wait: 1}, req)
}

// stillFetch is a Fetch of n partitions, without a session.
func stillFetch(tb testing.TB, n int) (serve func()) {
	tb.Helper()
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.MinBytes = 17, 1<<30, 1
	rt := kmsg.NewFetchRequestTopic()
	rt.TopicID = topicID(1)
	for p := range int32(n) {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.PartitionMaxBytes = p, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	l := &stillLeader{res: replica.FetchResult{HighWatermark: 5, LastStableOffset: 5}}
	l.res.Slice = &l.slice
	return still(tb, l, req)
}

// stillSession is an incremental Fetch of n partitions, one epoch after the other.
func stillSession(tb testing.TB, n int) (serve func()) {
	tb.Helper()
	l := &stillLeader{res: replica.FetchResult{HighWatermark: 5, LastStableOffset: 5}}
	l.res.Slice = &l.slice
	c := newCluster(tb)
	c.options.Replicas, c.options.Observer = stillReplicas{l}, stillObserver{}
	ss := c.connect(tb)
	s := fakeSession(0, false)
	s.usesIDs, s.epoch = true, 1
	for p := range int32(n) {
		s.put(partitionKey{id: topicID(1), partition: p}, wanted{maxBytes: 1 << 20})
	}
	ss.server.sessions.add(s)
	frame, w := frameOf(incremental(17, s.id, 1)), &sink{}
	return func() {
		s.epoch = 1
		if err := ss.Serve(tb.Context(), frame, w); err != nil {
			tb.Fatal(err)
		}
	}
}

// The hot requests allocate nothing, whatever the number of partitions.
func TestHotRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	for _, n := range []int{1, 100} {
		for name, serve := range map[string]func(){
			"produce, acks=1": stillProduce(t, n, 1), "produce, acks=-1": stillProduce(t, n, -1),
			"fetch": stillFetch(t, n), "incremental fetch": stillSession(t, n),
		} {
			serve()
			if allocs := testing.AllocsPerRun(100, serve); allocs != 0 {
				t.Errorf("%s of %d partitions: %v allocations", name, n, allocs)
			}
		}
	}
}

func benchmarkServe(b *testing.B, serve func()) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
}

// BenchmarkProduce decodes, hands on and answers a request, without the append.
func BenchmarkProduce(b *testing.B) {
	for _, n := range []int{1, 100} {
		for _, acks := range []int16{1, -1} {
			b.Run(fmt.Sprintf("partitions=%d/acks=%d", n, acks), func(b *testing.B) {
				benchmarkServe(b, stillProduce(b, n, acks))
			})
		}
	}
}

// BenchmarkFetch decodes a full request, and lays out the response.
func BenchmarkFetch(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) { benchmarkServe(b, stillFetch(b, n)) })
	}
}

// BenchmarkFetchSession is an incremental fetch in which every partition has
// records.
func BenchmarkFetchSession(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("partitions=%d", n), func(b *testing.B) { benchmarkServe(b, stillSession(b, n)) })
	}
}
