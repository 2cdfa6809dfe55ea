package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sort"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/millrace/millrace/coordination/embedded"
	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/api"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/controller"
	"github.com/millrace/millrace/core/metadata"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/core/txn"
	"github.com/millrace/millrace/internal/leaktest"
	"github.com/millrace/millrace/storage/compression"
	"github.com/millrace/millrace/storage/memory"
	"github.com/millrace/millrace/transport/tcp"
)

// What this package looks for in a replica.Leader that is more than one, the real
// one has.
var _ interface {
	replica.Leader
	TopicID() core.TopicID
} = (*replica.Partition)(nil)

// assigned makes topics by hand, in the place of the controller: this package ends
// where the controller begins.
type assigned struct {
	controller.Admin // the rest is not asked for
	manager          *replica.Manager
	cache            *metadata.Cache
	topics           byte
}

func (a *assigned) CreateTopics(ctx context.Context, topics []controller.NewTopic, _ bool) []controller.TopicResult {
	out := make([]controller.TopicResult, len(topics))
	for i, t := range topics {
		out[i] = controller.TopicResult{Name: t.Name, Err: a.create(ctx, t.Name, 3)}
	}
	return out
}

func (a *assigned) create(ctx context.Context, name string, partitions int32) error {
	a.topics++
	t := &metadata.Topic{Name: name, ID: core.TopicID{15: a.topics}}
	state := kmsg.LeaderAndISRRequestTopicState{Topic: name, TopicID: t.ID}
	for p := range partitions {
		s := kmsg.NewLeaderAndISRRequestTopicPartition()
		s.Partition, s.Leader, s.ISR, s.Replicas = p, 1, []int32{1}, []int32{1}
		state.PartitionStates = append(state.PartitionStates, s)
		t.Partitions = append(t.Partitions, metadata.Partition{Leader: 1, Replicas: []int32{1}, ISR: []int32{1}})
	}
	req := kmsg.NewPtrLeaderAndISRRequest()
	req.Version, req.TopicStates = 7, []kmsg.LeaderAndISRRequestTopicState{state}
	if resp := a.manager.ApplyLeaderAndISR(ctx, req); resp.ErrorCode != 0 {
		return kerr.ErrorForCode(resp.ErrorCode)
	}
	a.cache.Update(func(im *metadata.Image) *metadata.Image { return im.With(1, 1, nil, []*metadata.Topic{t}) })
	return nil
}

// serve starts a broker without a controller and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	tree, err := embedded.Open(t.Context(), embedded.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	session, err := tree.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	compressors, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	topic := &config.Topic{
		Delete: true, KeepCodec: true, Level: core.DefaultLevel, MaxMessageBytes: 1 << 20, MinInSyncReplicas: 1,
		TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: math.MaxInt64,
		SegmentBytes: 1 << 30, SegmentTime: time.Hour, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		RetentionTime: time.Hour, RetentionBytes: -1, FlushMessages: math.MaxInt64, FlushTime: config.Forever,
	}
	manager, err := replica.NewManager(replica.Options{
		BrokerID: 1, Storage: memory.Open(memory.Options{Clock: core.SystemClock{}}), Clock: core.SystemClock{}, Log: log,
		Compressors: &compressors, Topic: func(string) *config.Topic { return topic },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	cache := metadata.NewCache("endtoend")
	server := api.NewServer(api.Options{
		NodeID: 1, Replicas: manager, Admin: &assigned{manager: manager, cache: cache}, Metadata: cache,
		Clock: core.SystemClock{}, Log: log, AutoCreateTopics: true, FetchSessions: 10,
		Producers: txn.NewProducerIDs(1, func(context.Context) (core.CoordinatorSession, error) { return session, nil }),
	})
	const listener = "PLAINTEXT"
	l, err := tcp.New(tcp.Options{Log: log}).Listen(t.Context(), core.ListenerConfig{
		Name: listener, Address: "127.0.0.1:0", Protocol: listener, MaxRequestBytes: 100 << 20, SendBuffer: -1, ReceiveBuffer: -1,
	}, server)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	cache.Update(func(im *metadata.Image) *metadata.Image {
		return im.With(1, 1, []*metadata.Broker{{ID: 1, Endpoints: []metadata.Endpoint{
			{Listener: listener, Protocol: listener, Host: host, Port: int32(number)},
		}}}, nil)
	})
	t.Cleanup(func() {
		for _, stop := range []func() error{l.Close, func() error { return manager.Close(context.Background()) }, tree.Close} {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		leaktest.None(t)
	})
	return l.Addr().String()
}

// A client that nobody here wrote produces and consumes through this package, the
// replicas, memory storage and TCP: idempotent and plain, with every acks and
// codec, in old and new versions.
func TestEndToEnd(t *testing.T) {
	seeds := kgo.SeedBrokers(serve(t))
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for codec, c := range codecs {
		produceAndConsume(t, "idempotent-"+codec, seeds, kgo.ProducerBatchCompression(c))
	}
	for version, v := range map[string]*kversion.Versions{
		"0.11": kversion.V0_11_0(), "1.1": kversion.V1_1_0(), "2.4": kversion.V2_4_0(), "2.8": kversion.V2_8_0(), "3.7": kversion.V3_7_0(),
	} {
		produceAndConsume(t, "version-"+version, seeds, kgo.MaxVersions(v), kgo.ProducerBatchCompression(kgo.GzipCompression()))
	}
	produceAndConsume(t, "acks-1", seeds, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	produceAndConsume(t, "acks-0", seeds, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
}

func produceAndConsume(t *testing.T, topic string, seeds kgo.Opt, opts ...kgo.Opt) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	opts = append(opts, seeds)
	producer, err := kgo.NewClient(append(opts, kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const records = 2000
	for i := range records {
		producer.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "value %d of %s", i, topic)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("%s: %v", topic, err)
			}
		})
	}
	if err := producer.Flush(ctx); err != nil {
		t.Fatalf("%s: flush: %v", topic, err)
	}
	consumer, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	var got []int
	for len(got) < records {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: %d records, then: %v", topic, len(got), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			i, err := strconv.Atoi(string(r.Key))
			if err != nil || string(r.Value) != fmt.Sprintf("value %d of %s", i, topic) {
				t.Errorf("%s: record %q: %q", topic, r.Key, r.Value)
			}
			got = append(got, i)
		})
	}
	sort.Ints(got)
	for i, n := range got {
		if i != n {
			t.Fatalf("%s: record %d in the place of %d", topic, n, i)
		}
	}
}
