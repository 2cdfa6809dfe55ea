package kafkadir_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kind is a kind of topic, each with one partition.
type kind struct {
	topic  string
	codec  kgo.CompressionCodec
	config map[string]string
	// stored is the codec of the batches in the log, as DumpLogSegments calls it.
	stored string
}

// kinds are all codecs, the broker's own timestamps and compression, and a topic whose
// first records get deleted.
func kinds() []kind {
	return []kind{
		{topic: "plain", codec: kgo.NoCompression(), stored: "none"},
		{topic: "gzip", codec: kgo.GzipCompression(), stored: "gzip"},
		{topic: "snappy", codec: kgo.SnappyCompression(), stored: "snappy"},
		{topic: "lz4", codec: kgo.Lz4Compression(), stored: "lz4"},
		{topic: "zstd", codec: kgo.ZstdCompression(), stored: "zstd"},
		{topic: "append-time", codec: kgo.NoCompression(), stored: "none", config: map[string]string{"message.timestamp.type": "LogAppendTime"}},
		{topic: "recompressed", codec: kgo.SnappyCompression(), stored: "lz4", config: map[string]string{"compression.type": "lz4"}},
		{topic: "trimmed", codec: kgo.ZstdCompression(), stored: "zstd"},
	}
}

const segmentBytes = "80000"

// createTopics makes the topics with segments of few records and dense indexes.
func createTopics(ctx context.Context, t *testing.T, cl *kgo.Client) {
	t.Helper()
	for _, k := range kinds() {
		config := map[string]*string{"segment.bytes": kadm.StringPtr(segmentBytes), "index.interval.bytes": kadm.StringPtr("1000")}
		for name, value := range k.config {
			config[name] = kadm.StringPtr(value)
		}
		if _, err := kadm.NewClient(cl).CreateTopic(ctx, 1, 1, config, k.topic); err != nil {
			t.Fatalf("create topic %s: %v", k.topic, err)
		}
	}
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// written are the records of each topic by offset, without those deleted.
type written map[string]map[int64]*kgo.Record

func (w written) clone() written {
	c := written{}
	for topic, records := range w {
		c[topic] = maps.Clone(records)
	}
	return c
}

func (w written) add(records ...*kgo.Record) {
	for _, r := range records {
		if w[r.Topic] == nil {
			w[r.Topic] = map[int64]*kgo.Record{}
		}
		w[r.Topic][r.Offset] = r
	}
}

const (
	batchesEach = 30
	batchSize   = 10
)

// produce sends batches of all kinds of records to every topic with an idempotent
// producer, and adds them to w.
func produce(ctx context.Context, t *testing.T, addr string, seed uint64, w written) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	for _, k := range kinds() {
		cl := client(t, addr, kgo.ProducerBatchCompression(k.codec), kgo.DefaultProduceTopic(k.topic), kgo.ProducerLinger(20*time.Millisecond))
		for n := range batchesEach {
			var batch []*kgo.Record
			for i := range batchSize {
				batch = append(batch, newRecord(rnd, seed, n*batchSize+i))
			}
			if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
				t.Fatalf("produce to %s: %v", k.topic, err)
			}
			w.add(batch...)
		}
		cl.Close()
	}
}

// newRecord makes text that compresses a bit, with all kinds of nothing, headers, and
// timestamps that go back now and then. One record is large.
func newRecord(rnd *rand.Rand, seed uint64, i int) *kgo.Record {
	words := []string{"offset ", "segment ", "index ", "leader ", "epoch ", "watermark ", "producer ", "replica "}
	text := func(n int) []byte { // of words, for clients send what does not shrink as it is
		b := []byte{}
		for len(b) < n {
			b = append(b, words[rnd.IntN(len(words))]...)
		}
		return b[:n]
	}
	size := 500 + rnd.IntN(3000)
	if i == batchSize*batchesEach/2 {
		size = 60_000
	}
	r := &kgo.Record{
		Key:       fmt.Appendf(nil, "key-%d-%d", seed, i),
		Value:     text(size),
		Timestamp: time.UnixMilli(time.Now().UnixMilli() - 600_000 + int64(i*50) - int64(i%5*180)),
	}
	switch i % 11 {
	case 1:
		r.Key = nil
	case 2:
		r.Key = []byte{}
	case 3:
		r.Value = nil
	case 4:
		r.Value = []byte{}
	}
	for h := range i % 3 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: fmt.Sprintf("header%d", h), Value: text(h * 5)})
	}
	return r
}

// trim deletes the first records of the topic trimmed.
func trim(ctx context.Context, t *testing.T, cl *kgo.Client, offset int64, w written) {
	t.Helper()
	var to kadm.Offsets
	to.Add(kadm.Offset{Topic: "trimmed", Partition: 0, At: offset})
	res, err := kadm.NewClient(cl).DeleteRecords(ctx, to)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatalf("delete records: %v", err)
	}
	for o := range w["trimmed"] {
		if o < offset {
			delete(w["trimmed"], o)
		}
	}
}

// consume reads everything that the broker has of the topics in w and compares.
func consume(ctx context.Context, t *testing.T, addr string, w written) {
	t.Helper()
	for _, topic := range slices.Sorted(maps.Keys(w)) {
		consumeTopic(ctx, t, addr, topic, w[topic])
	}
}

func consumeTopic(ctx context.Context, t *testing.T, addr, topic string, want map[int64]*kgo.Record) {
	t.Helper()
	cl := client(t, addr, kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	last := slices.Max(slices.Collect(maps.Keys(want)))
	got := 0
	for done := false; !done; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Errorf("consume %s after %d of %d records: %v", topic, got, len(want), err)
			return
		}
		for _, r := range fs.Records() {
			w := want[r.Offset]
			if w == nil {
				t.Errorf("%s has a record at offset %d that was not written, or was deleted", topic, r.Offset)
				continue
			}
			if diff := different(w, r); diff != "" {
				t.Errorf("%s at offset %d: %s", topic, r.Offset, diff)
			}
			got++
			done = done || r.Offset >= last
		}
	}
	if got != len(want) {
		t.Errorf("%s: %d records, want %d", topic, got, len(want))
	}
}

// different compares a record read with the one written. nil and empty differ. The
// timestamp is the broker's where it writes its own.
func different(want, got *kgo.Record) string {
	var diffs []string
	bytes := func(what string, a, b []byte) {
		if string(a) != string(b) || (a == nil) != (b == nil) {
			diffs = append(diffs, fmt.Sprintf("%s %.40q (nil: %t), want %.40q (nil: %t)", what, b, b == nil, a, a == nil))
		}
	}
	bytes("key", want.Key, got.Key)
	bytes("value", want.Value, got.Value)
	if len(want.Headers) != len(got.Headers) {
		diffs = append(diffs, fmt.Sprintf("%d headers, want %d", len(got.Headers), len(want.Headers)))
	} else {
		for i, h := range want.Headers {
			bytes("header "+h.Key, h.Value, got.Headers[i].Value)
		}
	}
	if got.Attrs.TimestampType() == 0 && !got.Timestamp.Equal(want.Timestamp) {
		diffs = append(diffs, fmt.Sprintf("timestamp %s, want %s", got.Timestamp, want.Timestamp))
	}
	return strings.Join(diffs, "; ")
}
