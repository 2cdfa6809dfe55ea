package replica_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/config"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/compression"
)

func TestAppendAndFetch(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(3)
	for i, n := range []int{1, 3, 2} {
		res := produce(t, p, batchOf(n, 100))
		if want := []int64{0, 1, 4}[i]; res.Base != want || res.Wait != 0 || res.LeaderEpoch != 3 || res.LogAppendTime != -1 {
			t.Errorf("append %d: %+v, want base %d and nothing to wait for", i, res, want)
		}
	}
	if got := fetched(t, p, 0, replica.ReadUncommitted); !cmp.Equal(got, []int64{0, 1, 2, 3, 4, 5}) {
		t.Errorf("fetched %v", got)
	}
	if hw := p.HighWatermark(); hw != 6 {
		t.Errorf("high watermark %d, want 6", hw)
	}
}

// oldFormat is a message of magic 1.
func oldFormat() record.Batches {
	b := make([]byte, 34)
	binary.BigEndian.PutUint32(b[8:], 22)
	b[16] = 1
	return b
}

func codecs(t testing.TB) *core.Compressors {
	t.Helper()
	c, err := compression.Default()
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

// compressed is a batch of n records in a codec.
func compressed(t testing.TB, codec record.Codec, n, size int) record.Batches {
	t.Helper()
	c, err := codecs(t).For(codec)
	if err != nil {
		t.Fatal(err)
	}
	info := record.NewBatchInfo(0, 1_700_000_000_000)
	info.Codec = codec
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{OffsetDelta: int32(i), TimestampDelta: int64(i), Key: []byte{byte(i)}, Value: bytes.Repeat([]byte("x"), size)}
	}
	b, err := record.AppendBatch(nil, info, records, func(dst, src []byte) ([]byte, error) {
		return c.Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: record.Magic2})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	at := func(ms int64) record.Batches { return build(record.NewBatchInfo(0, ms), 2, 10) }
	broken := batchOf(1, 10)
	broken[len(broken)-1] ^= 1
	control := record.NewBatchInfo(0, 0)
	control.ProducerID, control.ProducerEpoch = 1, 0
	keyless := record.NewBatchInfo(0, 1_700_000_000_000)
	noKeys, err := record.AppendBatch(nil, keyless, []record.Record{{Key: []byte("k")}, {OffsetDelta: 1, Value: []byte("v")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	two := append(batchOf(1, 10), batchOf(1, 10)...)
	bounds := func(c *config.Topic) { c.TimestampBeforeMax, c.TimestampAfterMax = 1000, 2000 }
	now := newClock().Now().UnixMilli()
	for name, tc := range map[string]struct {
		change  func(*config.Topic)
		batches record.Batches
		version int16
		code    int16
		message string // part of it
		records []int32
	}{
		"nothing":                  {nil, nil, 9, kerr.InvalidRecord.Code, "exactly one record batch", nil},
		"two batches":              {nil, two, 9, kerr.InvalidRecord.Code, "exactly one record batch", nil},
		"garbage":                  {nil, []byte("0123456789abcdef0123456789abcdef"), 9, kerr.CorruptMessage.Code, "magic", nil},
		"magic 1 in version 3":     {nil, oldFormat(), 3, kerr.InvalidRecord.Code, "magic", nil},
		"checksum":                 {nil, broken, 9, kerr.CorruptMessage.Code, "crc", nil},
		"larger than the limit":    {func(c *config.Topic) { c.MaxMessageBytes = 100 }, batchOf(1, 200), 9, kerr.MessageTooLarge.Code, "100", nil},
		"larger than a segment":    {func(c *config.Topic) { c.SegmentBytes = 100 }, batchOf(1, 200), 9, kerr.RecordListTooLarge.Code, "segment size of 100", nil},
		"zstd before version 7":    {nil, compressed(t, record.Zstd, 1, 10), 6, kerr.UnsupportedCompressionType.Code, "version 6", nil},
		"control batch":            {nil, record.AppendEndTxn(nil, control, record.EndTxn{}), 9, kerr.InvalidRecord.Code, "control", nil},
		"no key, compacted":        {func(c *config.Topic) { c.Compact = true }, noKeys, 9, kerr.InvalidRecord.Code, "key", []int32{1}},
		"too old":                  {bounds, at(now - 1001), 9, kerr.InvalidTimestamp.Code, "timestamp", []int32{0, 1}},
		"too new":                  {bounds, at(now + 2001), 9, kerr.InvalidTimestamp.Code, "timestamp", []int32{0, 1}},
		"as old as may be":         {bounds, at(now - 1000), 9, 0, "", nil},
		"as new as may be":         {bounds, at(now + 2000), 9, 0, "", nil},
		"time of the append rules": {func(c *config.Topic) { bounds(c); c.LogAppendTime = true }, at(1), 9, 0, "", nil},
		"zstd in version 7":        {nil, compressed(t, record.Zstd, 1, 10), 7, 0, "", nil},
		"as large as may be":       {func(c *config.Topic) { c.MaxMessageBytes = int32(len(batchOf(1, 200))) }, batchOf(1, 200), 9, 0, "", nil},
	} {
		cfg := topicConfig()
		if tc.change != nil {
			tc.change(cfg)
		}
		b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
		p := b.lead(1)
		res, err := p.Append(t.Context(), replica.AppendRequest{Batches: slices.Clone(tc.batches), Acks: replica.AcksAll, Version: tc.version})
		c, message := core.KafkaCode(err)
		if c != tc.code || !strings.Contains(strings.ToLower(message), strings.ToLower(tc.message)) {
			t.Errorf("%s: code %d, %q; want %d, %q", name, c, message, tc.code, tc.message)
		}
		var blamed []int32
		for _, r := range res.RecordErrors {
			blamed = append(blamed, r.Index)
			if r.Message == "" {
				t.Errorf("%s: record %d is refused without a word", name, r.Index)
			}
		}
		if !slices.Equal(blamed, tc.records) {
			t.Errorf("%s: records to blame %v, want %v", name, blamed, tc.records)
		}
		if _, end := p.Bounds(); (err == nil) != (end > 0) || err != nil && res.Base != -1 {
			t.Errorf("%s: error %v, the log ends at %d, %+v", name, err, end, res)
		}
	}
}

// first reads the first batch of a partition.
func first(t testing.TB, p replica.Leader) record.Batch {
	t.Helper()
	res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1, MinOneBatch: true, ReplicaID: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Slice.Close() }()
	b := make(record.Batch, res.Slice.Len())
	if _, err := res.Slice.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := record.Check(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCompressionType(t *testing.T) {
	t.Parallel()
	all := codecs(t)
	decompress := func(codec record.Codec, dst, src []byte) ([]byte, error) {
		c, err := all.For(codec)
		if err != nil {
			return nil, err
		}
		return c.Decompress(dst, src, core.CompressionParams{Magic: record.Magic2, Limit: 1 << 20})
	}
	sent := func(codec record.Codec) record.Batches {
		if codec == record.None {
			return batchOf(20, 100)
		}
		return compressed(t, codec, 20, 100)
	}
	for codec := record.None; codec < record.CodecCount; codec++ {
		for stored := record.Codec(-1); stored < record.CodecCount; stored++ {
			cfg := topicConfig()
			cfg.KeepCodec, cfg.Codec = stored < 0, max(stored, 0)
			b := start(t, setup{topic: cfg, change: func(o *replica.Options) { o.Compressors = all }})
			p := b.lead(4)
			batch := sent(codec)
			want, err := record.Batch(slices.Clone(batch)).Records(decompress, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				produce(t, p, slices.Clone(batch))
			}
			got := first(t, p)
			if wantCodec := map[bool]record.Codec{true: codec, false: stored}[stored < 0]; got.Codec() != wantCodec {
				t.Errorf("%s in a topic of %s is stored as %s", codec, stored, got.Codec())
			}
			records, err := got.Records(decompress, nil)
			if err != nil || !bytes.Equal(records, want) {
				t.Errorf("%s in a topic of %s: the records have changed (%v)", codec, stored, err)
			}
			if got.LeaderEpoch() != 4 || got.Count() != 20 || got.LastOffsetDelta() != 19 ||
				got.MaxTimestamp() != record.Batch(batch).MaxTimestamp() || got.ProducerID() != record.NoProducerID {
				t.Errorf("%s in a topic of %s: the header has changed", codec, stored)
			}
			if _, end := p.Bounds(); end != 40 {
				t.Errorf("%s in a topic of %s: the log ends at %d", codec, stored, end)
			}
		}
	}
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.LogAppendTime = true
	b := start(t, setup{topic: cfg})
	p := b.lead(1)
	now := b.clock.Now().UnixMilli()
	if res := produce(t, p, batchOf(2, 10)); res.LogAppendTime != now {
		t.Errorf("append time %d, want %d", res.LogAppendTime, now)
	}
	if got := first(t, p); !got.IsLogAppendTime() || got.MaxTimestamp() != now {
		t.Errorf("stored with log append time %v and timestamp %d", got.IsLogAppendTime(), got.MaxTimestamp())
	}
	// The header's max timestamp is not believed.
	info := record.NewBatchInfo(0, 1000)
	info.MaxTimestamp = math.MaxInt64
	p = start(t, setup{}).lead(1)
	produce(t, p, build(info, 1, 1))
	if got := first(t, p); got.MaxTimestamp() != 1000 {
		t.Errorf("max timestamp %d, want that of the record", got.MaxTimestamp())
	}
}

func TestRollByTime(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentTime = time.Hour
	b := start(t, setup{topic: cfg})
	p := b.lead(1)
	at := func(ms int64) {
		t.Helper()
		produce(t, p, build(record.NewBatchInfo(0, ms), 1, 10))
	}
	hour := time.Hour.Milliseconds()
	for _, s := range []struct {
		ms       int64
		segments int
	}{
		{1000, 1}, {1000 + hour, 1}, {1001 + hour, 2}, {500, 2}, {1001 + 2*hour, 2}, {1002 + 2*hour, 3},
	} {
		at(s.ms)
		if n := b.Partitions()[0].Segments; n != s.segments {
			t.Errorf("after a record at %d ms: %d segments, want %d", s.ms, n, s.segments)
		}
	}
	// Records without a time go by the clock.
	b.clock.advance(2 * time.Hour)
	at(record.NoTimestamp)
	if n := b.Partitions()[0].Segments; n != 4 {
		t.Errorf("%d segments, want 4", n)
	}
	if got := fetched(t, p, 0, replica.ReadUncommitted); len(got) != 7 {
		t.Errorf("fetched %v", got)
	}
}

func TestRollJitter(t *testing.T) {
	t.Parallel()
	cfg := topicConfig()
	cfg.SegmentTime, cfg.SegmentJitter = time.Hour, time.Hour
	b := start(t, setup{topic: cfg})
	codes := b.apply(core.TopicID{}, state(0, self, 1, self), state(1, self, 1, self), state(2, self, 1, self), state(3, self, 1, self))
	if !slices.Equal(codes, []int16{0, 0, 0, 0}) {
		t.Fatal(codes)
	}
	rolledAt := map[int]bool{}
	for i := range int32(4) {
		p, _ := b.Partition(topic, i)
		for minute := 0; ; minute++ {
			produce(t, p, build(record.NewBatchInfo(0, int64(minute)*60_000), 1, 10))
			if b.Partitions()[i].Segments > 1 {
				rolledAt[minute] = true
				break
			}
			if minute > 61 {
				t.Fatal("no roll")
			}
		}
	}
	if len(rolledAt) < 2 {
		t.Errorf("all rolled in the same minute: %v", rolledAt)
	}
}

func TestIdempotence(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1, self, 2)
	if res := produce(t, p, from(7, 0, 0, 3)); res.Base != 0 || res.Duplicate {
		t.Fatalf("%+v", res)
	}
	produce(t, p, from(7, 0, 3, 2))
	res := produce(t, p, from(7, 0, 0, 3))
	if res.Base != 0 || !res.Duplicate || res.Wait != 3 {
		t.Errorf("a duplicate: %+v", res)
	}
	if _, end := p.Bounds(); end != 5 {
		t.Errorf("the log ends at %d after a duplicate", end)
	}
	for _, tc := range []struct {
		batch record.Batches
		code  int16
	}{
		{from(7, 0, 9, 1), kerr.OutOfOrderSequenceNumber.Code},
		{from(7, 1, 5, 1), kerr.OutOfOrderSequenceNumber.Code},
		{from(7, 1, 0, 1), 0},
		{from(7, 0, 5, 1), kerr.InvalidProducerEpoch.Code},
		{from(8, 3, 100, 1), 0},
	} {
		_, err := p.Append(t.Context(), replica.AppendRequest{Batches: tc.batch, Acks: replica.AcksLeader, Version: 9})
		if code(err) != tc.code {
			t.Errorf("sequence %d: %v, want code %d", record.Batch(tc.batch).BaseSequence(), err, tc.code)
		}
	}
	got, err := p.Producers()
	if err != nil {
		t.Fatal(err)
	}
	want := []replica.ProducerState{
		{ProducerID: 7, Epoch: 1, LastSequence: 0, LastTimestamp: 1_700_000_000_000, CoordinatorEpoch: -1, CurrentTxnStart: -1},
		{ProducerID: 8, Epoch: 3, LastSequence: 100, LastTimestamp: 1_700_000_000_000, CoordinatorEpoch: -1, CurrentTxnStart: -1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	b.clock.advance(24*time.Hour + time.Millisecond)
	b.ExpireProducers(t.Context())
	if got, _ := p.Producers(); len(got) != 0 {
		t.Errorf("not expired: %+v", got)
	}
}

func TestInternalAppends(t *testing.T) {
	t.Parallel()
	b := start(t, setup{})
	p := b.lead(1)
	run := append(batchOf(2, 1), batchOf(3, 1)...)
	res, err := p.Append(t.Context(), replica.AppendRequest{Batches: run, Acks: replica.AcksAll, Internal: true})
	if err != nil || res.Base != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	info := record.NewBatchInfo(0, 1_700_000_000_000)
	info.ProducerID, info.ProducerEpoch, info.BaseSequence, info.Transactional = 4, 0, 0, true
	// Offsets 5 and 6 of an open transaction, which no client can begin yet.
	transactional := replica.AppendRequest{Batches: build(info, 2, 1), Acks: replica.AcksAll, Version: 9}
	if _, err := p.Append(t.Context(), transactional); code(err) != kerr.InvalidTxnState.Code {
		t.Errorf("a client's transaction: %v", err)
	}
	transactional.Internal = true
	if res, err := p.Append(t.Context(), transactional); err != nil || res.Base != 5 {
		t.Fatalf("%+v, %v", res, err)
	}
	produce(t, p, batchOf(1, 1)) // 7
	if lso := p.LastStableOffset(); lso != 5 || p.HighWatermark() != 8 {
		t.Errorf("last stable offset %d, high watermark %d", lso, p.HighWatermark())
	}
	if got := fetched(t, p, 0, replica.ReadCommitted); !slices.Equal(got, []int64{0, 1, 2, 3, 4}) {
		t.Errorf("committed are %v", got)
	}
	marker := record.AppendEndTxn(nil, info, record.EndTxn{Commit: true, CoordinatorEpoch: 3})
	if _, err := p.Append(t.Context(), replica.AppendRequest{Batches: marker, Acks: replica.AcksAll, Internal: true}); err != nil {
		t.Fatal(err)
	}
	if lso := p.LastStableOffset(); lso != 9 {
		t.Errorf("last stable offset %d after the commit", lso)
	}
}
