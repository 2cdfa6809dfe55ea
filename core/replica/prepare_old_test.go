package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
)

// said is a record without what old formats do not have.
type said struct {
	Offset, Timestamp int64
	Key, Value        string
}

// messageSet is n messages with values of size bytes, as a producer of magic 0 or 1
// sends them.
func messageSet(t testing.TB, magic int8, codec record.Codec, n, size int, at int64) (set []byte, want []said) {
	t.Helper()
	for i := range n {
		m := record.Message{
			Offset: int64(i), Magic: magic, Timestamp: at + int64(i%7)*3,
			Key: fmt.Appendf(nil, "key %d", i), Value: []byte(strings.Repeat(fmt.Sprint(i), size)[:size]),
		}
		set = record.AppendMessage(set, &m)
		w := said{int64(i), m.Timestamp, string(m.Key), string(m.Value)}
		if magic == record.Magic0 {
			w.Timestamp = record.NoTimestamp
		}
		want = append(want, w)
	}
	if codec == record.None {
		return set, want
	}
	// The way down, from the batch that has these messages, makes the wrapper.
	tr := codecs(t).Transcoder(0)
	u := record.UpConversion{Transcoder: tr}
	up, err := u.Append(nil, set)
	if err != nil {
		t.Fatal(err)
	}
	plain := up.Batches.First()
	info := record.NewBatchInfo(0, plain.FirstTimestamp())
	info.Codec, info.MaxTimestamp = codec, plain.MaxTimestamp()
	payload, err := tr.Compress(codec, record.Magic2, make([]byte, record.HeaderSize), plain.Payload())
	if err != nil {
		t.Fatal(err)
	}
	record.SealBatch(payload, info, plain.LastOffsetDelta(), plain.Count())
	set, err = record.NewDownConverter(magic, tr).Append(nil, payload)
	if err != nil {
		t.Fatal(err)
	}
	return set, want
}

// stored reads everything in a partition.
func stored(t testing.TB, p replica.Leader) (all []said, batches []record.Batch) {
	t.Helper()
	res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 30, ReplicaID: -1})
	if err != nil || res.Slice == nil {
		t.Fatalf("nothing to read: %v", err)
	}
	defer func() { _ = res.Slice.Close() }()
	raw := make(record.Batches, res.Slice.Len())
	if _, err := res.Slice.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if err := raw.Check(); err != nil {
		t.Fatal(err)
	}
	tr := codecs(t).Transcoder(0)
	for b := range raw.All() {
		batches = append(batches, b)
		records, err := b.Records(func(c record.Codec, dst, src []byte) ([]byte, error) {
			return tr.Decompress(c, record.Magic2, dst, src)
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := record.NewReader(b, records)
		for r.Next() {
			all = append(all, said{r.Offset(), r.Timestamp(), string(r.View().Key), string(r.View().Value)})
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return all, batches
}

// What old producers send is stored as batches of magic 2, in the codec that it was
// sent with, or the topic's.
func TestAppendOfOldFormats(t *testing.T) {
	t.Parallel()
	clock := newClock()
	at := clock.Now().UnixMilli() - 1000
	all := []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4}
	for magic := range int8(2) {
		for _, sent := range all {
			for _, topic := range append(slices.Clone(all), record.Zstd, -1) {
				cfg := topicConfig()
				want := sent
				if topic >= 0 {
					cfg.KeepCodec, cfg.Codec, cfg.Level, want = false, topic, core.DefaultLevel, topic
				}
				b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
				p := b.lead(1)
				set, records := messageSet(t, magic, sent, 50, 100, at)
				for round := range int64(2) {
					res, err := p.Append(t.Context(), replica.AppendRequest{Batches: slices.Clone(set), Acks: replica.AcksAll, Version: 2})
					if err != nil || res.Base != round*50 || res.LogAppendTime != -1 {
						t.Fatalf("magic %d, %s to %d: %+v, %v", magic, sent, topic, res, err)
					}
				}
				again := slices.Clone(records)
				for i := range again {
					again[i].Offset += 50
				}
				got, batches := stored(t, p)
				if diff := cmp.Diff(append(records, again...), got); diff != "" {
					t.Fatalf("magic %d, %s to %d (-want +got):\n%s", magic, sent, topic, diff)
				}
				if len(batches) != 2 || batches[0].Codec() != want || batches[0].MaxTimestamp() != maxTime(records) || batches[1].LeaderEpoch() != 1 {
					t.Errorf("magic %d, %s to %d: %d batches, %s, max timestamp %d", magic, sent, topic, len(batches), batches[0].Codec(), batches[0].MaxTimestamp())
				}
			}
		}
	}
}

func maxTime(rs []said) int64 {
	highest := record.NoTimestamp
	for _, r := range rs {
		highest = max(highest, r.Timestamp)
	}
	return highest
}

// A message set larger than a batch may be becomes several where it is not
// compressed.
func TestAppendSplitsOldFormats(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.MaxMessageBytes = 1000
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
	p := b.lead(1)
	set, want := messageSet(t, 1, record.None, 100, 100, newClock().Now().UnixMilli())
	res, err := p.Append(t.Context(), replica.AppendRequest{Batches: set, Acks: replica.AcksAll, Version: 2})
	if err != nil || res.Base != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	got, batches := stored(t, p)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, b := range batches {
		if len(b) > 1000 {
			t.Errorf("a batch of %d bytes", len(b))
		}
	}
	if len(batches) < 12 {
		t.Errorf("%d batches", len(batches))
	}
}

func TestAppendOfOldFormatsByTheRules(t *testing.T) {
	t.Parallel()
	now := newClock().Now().UnixMilli()
	set := func(magic int8, codec record.Codec, n, size int, at int64) []byte {
		s, _ := messageSet(t, magic, codec, n, size, at)
		return s
	}
	broken := set(1, record.None, 1, 10, now)
	broken[len(broken)-1] ^= 1
	keyless := record.AppendMessage(nil, &record.Message{Magic: 1, Timestamp: now, Value: []byte("v")})
	for name, tc := range map[string]struct {
		change  func(*config.Topic)
		set     []byte
		version int16
		code    int16
	}{
		"version 3":          {nil, set(1, record.None, 1, 10, now), 3, kerr.InvalidRecord.Code},
		"checksum":           {nil, broken, 2, kerr.CorruptMessage.Code},
		"too old":            {func(c *config.Topic) { c.TimestampBeforeMax = 10 }, set(1, record.Gzip, 1, 10, now-11), 2, kerr.InvalidTimestamp.Code},
		"without a time":     {func(c *config.Topic) { c.TimestampBeforeMax = 10 }, set(0, record.Gzip, 1, 10, 0), 1, 0},
		"no key, compacted":  {func(c *config.Topic) { c.Compact = true }, keyless, 2, kerr.InvalidRecord.Code},
		"keys, compacted":    {func(c *config.Topic) { c.Compact = true }, set(0, record.None, 3, 10, 0), 0, 0},
		"message too large":  {func(c *config.Topic) { c.MaxMessageBytes = 500 }, set(1, record.None, 1, 500, now), 2, kerr.MessageTooLarge.Code},
		"wrapper too large":  {func(c *config.Topic) { c.MaxMessageBytes = 100 }, set(1, record.LZ4, 20, 50, now), 2, kerr.MessageTooLarge.Code},
		"batch too large":    {func(c *config.Topic) { c.MaxMessageBytes, c.KeepCodec, c.Codec, c.Level = 150, false, record.Snappy, 0 }, set(1, record.None, 100, 10, now), 2, kerr.MessageTooLarge.Code},
		"larger than a file": {func(c *config.Topic) { c.SegmentBytes = 1000 }, set(1, record.None, 20, 100, now), 2, kerr.RecordListTooLarge.Code},
		"batch in front":     {nil, append(batchOf(1, 10), set(1, record.None, 1, 10, now)...), 2, kerr.InvalidRecord.Code},
		"batch behind":       {nil, append(set(1, record.None, 1, 10, now), batchOf(1, 10)...), 2, kerr.InvalidRecord.Code},
		"batch in version 2": {nil, batchOf(1, 10), 2, 0},
	} {
		cfg := topicConfig()
		if tc.change != nil {
			tc.change(cfg)
		}
		p := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }}).lead(1)
		_, err := p.Append(t.Context(), replica.AppendRequest{Batches: slices.Clone(tc.set), Acks: replica.AcksLeader, Version: tc.version})
		if code, message := core.KafkaCode(err); code != tc.code {
			t.Errorf("%s: code %d, %q; want %d", name, code, message, tc.code)
		}
		if _, end := p.Bounds(); (err == nil) != (end > 0) {
			t.Errorf("%s: error %v, and the log ends at %d", name, err, end)
		}
	}
}

// With log append time the time is the broker's, also for messages that have none.
func TestAppendTimeOfOldFormats(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.LogAppendTime = true
	b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
	p := b.lead(1)
	now := b.clock.Now().UnixMilli()
	for i, c := range []struct {
		magic int8
		codec record.Codec
	}{{0, record.None}, {1, record.Snappy}} {
		set, _ := messageSet(t, c.magic, c.codec, 3, 10, 5)
		res, err := p.Append(t.Context(), replica.AppendRequest{Batches: set, Acks: replica.AcksLeader, Version: 2})
		if err != nil || res.LogAppendTime != now || res.Base != int64(3*i) {
			t.Fatalf("%+v, %v; want the time %d", res, err, now)
		}
	}
	got, _ := stored(t, p)
	for _, r := range got {
		if r.Timestamp != now {
			t.Errorf("record %d has time %d, not %d", r.Offset, r.Timestamp, now)
		}
	}
}

// Where the topic does not have its records converted, consumers are told so;
// followers, which are brokers, are served.
func TestConversionIsTheTopicsChoice(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		cfg := topicConfig()
		cfg.DownConversion = on
		p := start(t, setup{topic: cfg}).lead(1)
		produce(t, p, batchOf(2, 10))
		produce(t, p, batchOf(3, 10))
		for _, convert := range []bool{true, false} {
			for _, follower := range []int32{-1, 2} {
				res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 20, ReplicaID: follower, Convert: convert})
				want := int16(0)
				if convert && follower < 0 && !on {
					want = kerr.UnsupportedVersion.Code
				}
				if code, message := core.KafkaCode(err); code != want || (want != 0) != strings.Contains(message, "message.downconversion.enable=false") {
					t.Errorf("conversion %v, asked for %v by %d: code %d, %q", on, convert, follower, code, message)
				}
				if err != nil {
					continue
				}
				if res.Next != 5 {
					t.Errorf("the answer ends before %d, not 5", res.Next)
				}
				_ = res.Slice.Close()
			}
		}
	}
}
