package replica_test

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/memory"
)

const (
	self  int32 = 1
	topic       = "orders"
)

// clock is a core.Clock that only moves when it is told to.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	timers []*timer
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_700_000_000_000)} }

type timer struct {
	c     *clock
	ch    chan time.Time
	f     func()
	at    time.Time
	armed bool
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) NewTimer(d time.Duration) core.Timer {
	t := &timer{c: c, ch: make(chan time.Time, 1)}
	c.mu.Lock()
	c.timers = append(c.timers, t)
	c.mu.Unlock()
	t.Reset(d)
	return t
}

func (c *clock) AfterFunc(d time.Duration, f func()) core.Timer {
	t := &timer{c: c, f: f}
	c.mu.Lock()
	c.timers = append(c.timers, t)
	c.mu.Unlock()
	t.Reset(d)
	return t
}

// advance moves the time and fires what is due.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for _, t := range c.timers {
		if t.armed && !t.at.After(c.now) {
			t.armed = false
			if t.f != nil {
				go t.f()
			} else {
				select {
				case t.ch <- c.now:
				default:
				}
			}
		}
	}
}

func (t *timer) C() <-chan time.Time { return t.ch }

func (t *timer) Stop() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	was := t.armed
	t.armed = false
	return was
}

func (t *timer) Reset(d time.Duration) bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	was := t.armed
	t.armed, t.at = true, t.c.now.Add(d)
	return was
}

// topicConfig has Kafka's defaults.
func topicConfig() *config.Topic {
	return &config.Topic{
		Delete: true, KeepCodec: true, Level: core.DefaultLevel,
		MaxMessageBytes: 1048588, MinInSyncReplicas: 1,
		TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: math.MaxInt64,
		SegmentBytes: 1 << 30, SegmentTime: 7 * 24 * time.Hour,
		SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096, FileDeleteDelay: time.Minute,
		RetentionTime: 7 * 24 * time.Hour, RetentionBytes: -1, RetentionPolicy: "time-size",
		FlushMessages: math.MaxInt64, FlushTime: config.Forever,
	}
}

// broker is a manager over some storage.
type broker struct {
	*replica.Manager
	t       testing.TB
	clock   *clock
	storage core.Storage
	epoch   int32 // of the controller
}

type setup struct {
	clock   *clock
	storage core.Storage
	topic   *config.Topic
	change  func(*replica.Options)
}

func start(t testing.TB, s setup) *broker {
	t.Helper()
	if s.clock == nil {
		s.clock = newClock()
	}
	if s.storage == nil {
		s.storage = memory.Open(memory.Options{Clock: s.clock})
	}
	if s.topic == nil {
		s.topic = topicConfig()
	}
	o := replica.Options{
		BrokerID: self, Storage: s.storage, Clock: s.clock, Log: slog.New(slog.DiscardHandler),
		Compressors: &core.Compressors{}, Topic: func(string) *config.Topic { return s.topic },
	}
	if s.change != nil {
		s.change(&o)
	}
	m, err := replica.NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := &broker{Manager: m, t: t, clock: s.clock, storage: s.storage}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("close the manager: %v", err)
		}
	})
	return b
}

// state describes a partition for LeaderAndIsr.
func state(partition, leader, epoch int32, isr ...int32) kmsg.LeaderAndISRRequestTopicPartition {
	s := kmsg.NewLeaderAndISRRequestTopicPartition()
	s.Partition, s.Leader, s.LeaderEpoch = partition, leader, epoch
	s.ISR, s.Replicas = isr, isr
	return s
}

// apply sends a LeaderAndIsr request of the newest version, and returns the codes.
func (b *broker) apply(id core.TopicID, states ...kmsg.LeaderAndISRRequestTopicPartition) []int16 {
	b.t.Helper()
	req := kmsg.NewPtrLeaderAndISRRequest()
	req.Version, req.ControllerEpoch = 7, b.epoch
	req.TopicStates = []kmsg.LeaderAndISRRequestTopicState{{Topic: topic, TopicID: id, PartitionStates: states}}
	resp := b.ApplyLeaderAndISR(context.Background(), req)
	if resp.ErrorCode != 0 {
		return []int16{resp.ErrorCode}
	}
	var codes []int16
	for _, p := range resp.Topics[0].Partitions {
		codes = append(codes, p.ErrorCode)
	}
	return codes
}

// lead makes the broker leader of partition 0 and returns it.
func (b *broker) lead(epoch int32, isr ...int32) *replica.Partition {
	b.t.Helper()
	if len(isr) == 0 {
		isr = []int32{self}
	}
	if codes := b.apply(core.TopicID{}, state(0, self, epoch, isr...)); !slices.Equal(codes, []int16{0}) {
		b.t.Fatalf("LeaderAndIsr: codes %v", codes)
	}
	p, ok := b.Partition(topic, 0)
	if !ok {
		b.t.Fatal("the partition is not there")
	}
	return p
}

// batchOf builds a batch of n records with that many bytes of value each.
func batchOf(n, size int) record.Batches {
	return build(record.NewBatchInfo(0, 1_700_000_000_000), n, size)
}

func build(info record.BatchInfo, n, size int) record.Batches {
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{OffsetDelta: int32(i), Key: []byte("key"), Value: make([]byte, size)}
	}
	b, err := record.AppendBatch(nil, info, records, nil)
	if err != nil {
		panic(err) // cannot be without compression
	}
	return b
}

// from is a batch of an idempotent producer.
func from(id int64, epoch int16, seq int32, n int) record.Batches {
	info := record.NewBatchInfo(0, 1_700_000_000_000)
	info.ProducerID, info.ProducerEpoch, info.BaseSequence = id, epoch, seq
	return build(info, n, 10)
}

func produce(t testing.TB, p replica.Leader, b record.Batches) replica.AppendResult {
	t.Helper()
	res, err := p.Append(context.Background(), replica.AppendRequest{Batches: b, Acks: replica.AcksAll, Version: 9})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return res
}

func code(err error) int16 {
	c, _ := core.KafkaCode(err)
	return c
}

// fetched reads everything from an offset and lists the offsets of the records.
func fetched(t testing.TB, p replica.Leader, offset int64, iso replica.Isolation) []int64 {
	t.Helper()
	var out []int64
	for {
		res, err := p.Fetch(context.Background(), replica.FetchRequest{
			Offset: offset, LeaderEpoch: -1, LastFetchedEpoch: -1, Isolation: iso, MaxBytes: 1 << 20, MinOneBatch: true, ReplicaID: -1,
		})
		if err != nil {
			t.Fatalf("fetch from %d: %v", offset, err)
		}
		if res.Slice == nil {
			return out
		}
		buf := make([]byte, res.Slice.Len())
		if _, err := res.Slice.ReadAt(buf, 0); err != nil {
			t.Fatal(err)
		}
		if err := res.Slice.Close(); err != nil {
			t.Fatal(err)
		}
		for b := range record.Batches(buf).All() {
			if err := record.Check(b); err != nil {
				t.Fatal(err)
			}
			for o := b.BaseOffset(); o <= b.LastOffset(); o++ {
				out = append(out, o)
			}
			offset = b.NextOffset()
		}
	}
}
