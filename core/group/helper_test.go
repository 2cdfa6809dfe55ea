package group_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/group"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/memory"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const self int32 = 1

// node is a coordinator over the partitions of a replica.Manager. Run it in a bubble of
// testing/synctest: its clock is the bubble's.
type node struct {
	*group.Coordinator
	t           testing.TB
	manager     *replica.Manager
	storage     core.Storage
	cache       *metadata.Cache
	settings    config.Groups
	times       func(string) *config.Group
	configured  func(context.Context) error
	topic       *config.Topic
	parts       int32
	epoch       int32
	isr         []int32
	compressors *core.Compressors
	outside     bool // of a bubble
	shrunk      bool // broker 2 is a replica, but not in the ISR
}

// faulty is a storage that fails, or keeps its readers waiting, when it is told to.
type faulty struct {
	core.Storage
	appending atomic.Pointer[error]
	reading   atomic.Pointer[chan struct{}] // readers wait until it is closed
	appends   atomic.Int64
}

// Open implements core.Storage.
func (f *faulty) Open(ctx context.Context, id core.LogID, cfg core.LogConfig) (core.Log, core.Recovered, error) {
	l, rec, err := f.Storage.Open(ctx, id, cfg)
	if err != nil {
		return nil, rec, err
	}
	return &faultyLog{Log: l, f: f}, rec, nil
}

type faultyLog struct {
	core.Log
	f *faulty
}

// Append implements core.Log.
func (l *faultyLog) Append(ctx context.Context, b record.Batches) (core.Appended, error) {
	if err := l.f.appending.Load(); err != nil {
		return core.Appended{}, *err
	}
	l.f.appends.Add(1)
	return l.Log.Append(ctx, b)
}

// Read implements core.Log.
func (l *faultyLog) Read(ctx context.Context, r core.ReadRequest) (core.Chunk, error) {
	if hold := l.f.reading.Load(); hold != nil {
		select {
		case <-*hold:
		case <-ctx.Done():
			return core.Chunk{}, ctx.Err()
		}
	}
	return l.Log.Read(ctx, r)
}

// settings are Kafka's defaults, but for the initial delay.
func settings() config.Groups {
	return config.Groups{
		TopicPartitions: 4, LoadBufferBytes: 5 << 20, CommitTimeout: 5 * time.Second,
		Retention: 7 * 24 * time.Hour, RetentionCheck: 10 * time.Minute, MetadataMaxBytes: 4096,
		MinSession: 6 * time.Second, MaxSession: 30 * time.Minute, MaxSize: math.MaxInt32,
		Protocols: []string{"classic", "consumer"},
		Consumer: config.ConsumerGroups{
			Session: 45 * time.Second, Heartbeat: 5 * time.Second, MaxSize: math.MaxInt32,
			Assignors: []string{"uniform", "range"}, RegexRefresh: 10 * time.Minute, Upgrade: true, Downgrade: true,
		},
	}
}

func offsetsTopic() *config.Topic {
	return &config.Topic{
		Compact: true, KeepCodec: true, Level: core.DefaultLevel,
		MaxMessageBytes: 1048588, MinInSyncReplicas: 1,
		TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: math.MaxInt64,
		SegmentBytes: 100 << 20, SegmentTime: 7 * 24 * time.Hour,
		SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096, FileDeleteDelay: time.Minute,
		RetentionTime: -1, RetentionBytes: -1, RetentionPolicy: "time-size",
		FlushMessages: math.MaxInt64, FlushTime: config.Forever,
	}
}

// open makes a node that leads every partition; change may alter it before.
func open(t testing.TB, change func(*node)) *node {
	t.Helper()
	n := &node{
		t: t, storage: memory.Open(memory.Options{Clock: core.SystemClock{}}), settings: settings(),
		topic: offsetsTopic(), compressors: &core.Compressors{}, parts: 4, isr: []int32{self},
	}
	if change != nil {
		change(n)
	}
	n.start()
	return n
}

// start opens manager and coordinator on the storage there is.
func (n *node) start() {
	n.t.Helper()
	n.cache = metadata.NewCache("cluster")
	n.cache.Update(func(im *metadata.Image) *metadata.Image {
		topic := &metadata.Topic{Name: group.TopicName, Partitions: make([]metadata.Partition, n.parts)}
		return im.With(self, 1, nil, []*metadata.Topic{topic})
	})
	log := slog.New(slog.DiscardHandler)
	ids := 0
	c, err := group.New(group.Options{
		Settings: n.settings, Clock: core.SystemClock{}, Log: log, Compressors: n.compressors,
		Metadata: n.cache, Group: n.times, Configured: n.configured,
		NewMemberID: func() string { ids++; return fmt.Sprint("id-", ids) },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	m, err := replica.NewManager(replica.Options{
		BrokerID: self, Storage: n.storage, Clock: core.SystemClock{}, Log: log, Compressors: n.compressors,
		Topic: func(string) *config.Topic { return n.topic }, OnLeadership: c.OnLeadership,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	if err := m.Load(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	n.manager, n.Coordinator = m, c
	n.epoch++
	n.lead(self)
}

// lead makes a broker leader of every partition and waits until that is digested.
func (n *node) lead(leader int32) {
	n.t.Helper()
	req := kmsg.NewPtrLeaderAndISRRequest()
	req.Version = 7
	topic := kmsg.LeaderAndISRRequestTopicState{Topic: group.TopicName}
	for p := range n.parts {
		s := kmsg.NewLeaderAndISRRequestTopicPartition()
		s.Partition, s.Leader, s.LeaderEpoch = p, leader, n.epoch
		s.ISR, s.Replicas = n.isr, n.isr
		for _, id := range []int32{leader, 2} {
			if !slices.Contains(s.Replicas, id) && (id == leader || n.shrunk) {
				s.Replicas = append(slices.Clone(s.Replicas), id)
			}
		}
		topic.PartitionStates = append(topic.PartitionStates, s)
	}
	n.epoch++
	req.TopicStates = append(req.TopicStates, topic)
	for _, r := range n.manager.ApplyLeaderAndISR(context.Background(), req).Topics[0].Partitions {
		if r.ErrorCode != 0 {
			n.t.Fatalf("LeaderAndIsr of partition %d: %v", r.Partition, kerr.ErrorForCode(r.ErrorCode))
		}
	}
	n.settle()
}

// settle waits until nothing moves any more. Outside of a bubble it waits for the loads.
func (n *node) settle() {
	if !n.outside {
		synctest.Wait()
		return
	}
	for n.Stats().Loads < int64(n.parts) {
		time.Sleep(time.Millisecond)
	}
}

// stop closes manager and coordinator; the storage stays.
func (n *node) stop() {
	n.t.Helper()
	if err := n.manager.Close(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	n.Close()
}

// restart is stop and start.
func (n *node) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

// part is the log of a group.
func (n *node) part(id string) *replica.Partition {
	n.t.Helper()
	p, ok := n.manager.Partition(group.TopicName, n.PartitionFor(id))
	if !ok {
		n.t.Fatal("the partition is not there")
	}
	return p
}

// shrink takes broker 2 out of the ISR.
func (n *node) shrink() {
	n.t.Helper()
	n.isr, n.shrunk = []int32{self}, true
	n.lead(self)
}

// follow tells leaders that broker 2 has fetched everything.
func (n *node) follow() {
	n.t.Helper()
	for p := range n.parts {
		part, ok := n.manager.Partition(group.TopicName, p)
		if !ok {
			n.t.Fatal("the partition is not there")
		}
		_, end := part.Bounds()
		part.RecordFollower(2, end, time.Now().UnixMilli())
	}
	synctest.Wait()
}

// at is an offset of a partition.
type at struct {
	topic     string
	partition int32
	offset    int64
}

func commitRequest(id string, what ...at) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = 8, id
	for _, a := range what {
		i := slices.IndexFunc(req.Topics, func(t kmsg.OffsetCommitRequestTopic) bool { return t.Topic == a.topic })
		if i < 0 {
			i = len(req.Topics)
			t := kmsg.NewOffsetCommitRequestTopic()
			t.Topic = a.topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = a.partition, a.offset
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	return req
}

// send commits and returns the codes in the order of the request.
func (n *node) send(req *kmsg.OffsetCommitRequest) []int16 {
	n.t.Helper()
	resp := kmsg.NewPtrOffsetCommitResponse()
	if err := n.CommitOffsets(context.Background(), group.Caller{}, req, resp); err != nil {
		n.t.Fatal(err)
	}
	var codes []int16
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			codes = append(codes, p.ErrorCode)
		}
	}
	return codes
}

// commit commits for a group without members and wants it to succeed.
func (n *node) commit(id string, what ...at) {
	n.t.Helper()
	for _, code := range n.send(commitRequest(id, what...)) {
		if code != 0 {
			n.t.Fatalf("commit of %s: %v", id, kerr.ErrorForCode(code))
		}
	}
}

// fetched lists everything a group has committed.
func (n *node) fetched(id string) []at {
	n.t.Helper()
	req := kmsg.NewOffsetFetchRequestGroup()
	req.Group = id
	resp := n.FetchOffsets(context.Background(), &req, false)
	if resp.ErrorCode != 0 {
		n.t.Fatalf("fetch of %s: %v", id, kerr.ErrorForCode(resp.ErrorCode))
	}
	var out []at
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				n.t.Fatalf("fetch of %s: %s-%d: %v", id, t.Topic, p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
			out = append(out, at{t.Topic, p.Partition, p.Offset})
		}
	}
	return out
}

// expect compares what a group has committed.
func (n *node) expect(id string, want ...at) {
	n.t.Helper()
	if got := n.fetched(id); !slices.Equal(got, want) {
		n.t.Fatalf("%s has committed %v, want %v", id, got, want)
	}
}

// batches is everything in a group's log.
func (n *node) batches(id string) []record.Batch {
	n.t.Helper()
	p := n.part(id)
	var out []record.Batch
	for from, end := p.Bounds(); from < end; {
		res, err := p.Fetch(context.Background(), replica.FetchRequest{
			Offset: from, LeaderEpoch: -1, LastFetchedEpoch: -1, Isolation: replica.LogEnd, MaxBytes: 1 << 20, MinOneBatch: true, ReplicaID: -1,
		})
		if err != nil {
			n.t.Fatal(err)
		}
		buf := make([]byte, res.Slice.Len())
		if _, err := res.Slice.ReadAt(buf, 0); err != nil {
			n.t.Fatal(err)
		}
		if err := res.Slice.Close(); err != nil {
			n.t.Fatal(err)
		}
		for b := range record.Batches(buf).All() {
			out = append(out, b)
			from = b.NextOffset()
		}
	}
	return out
}
