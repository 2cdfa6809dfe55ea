package replica_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/core/replica"
	"github.com/millrace/millrace/storage/mmap"
)

// firstRead is what a fetch from the start of a log brings, as it is stored.
func firstRead(t *testing.T, p replica.Leader) []byte {
	t.Helper()
	res, err := p.Fetch(t.Context(), replica.FetchRequest{LeaderEpoch: -1, LastFetchedEpoch: -1, MaxBytes: 1 << 20, ReplicaID: -1})
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, res.Slice.Len())
	if _, err := res.Slice.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	_ = res.Slice.Close()
	return raw
}

// oldLog is a log directory with one segment of messages as an old Kafka appended
// them: ten of each codec, offsets ascending, wrappers with the offset of their last
// message. It was not shut down in good order.
func oldLog(t *testing.T, magic int8, at int64) (core.Storage, []said) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, topic+"-0"), 0o755); err != nil {
		t.Fatal(err)
	}
	tr := codecs(t).Transcoder(0)
	var log []byte
	var want []said
	for i, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4} {
		base := int64(10 * i)
		var rs []record.Record
		info := record.NewBatchInfo(base, at+base)
		info.Codec = codec
		for j := range int32(10) {
			r := record.Record{OffsetDelta: j, TimestampDelta: int64(j), Key: []byte("k"), Value: []byte{byte('a' + i), byte('0' + j)}}
			w := said{base + int64(j), at + base + int64(j), "k", string(r.Value)}
			if magic == record.Magic0 {
				w.Timestamp = record.NoTimestamp
			}
			rs, want = append(rs, r), append(want, w)
		}
		var compress func(dst, src []byte) ([]byte, error)
		if codec != record.None {
			compress = func(dst, src []byte) ([]byte, error) { return tr.Compress(codec, record.Magic2, dst, src) }
		}
		b, err := record.AppendBatch(nil, info, rs, compress)
		if err != nil {
			t.Fatal(err)
		}
		if log, err = record.NewDownConverter(magic, tr).Append(log, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, topic+"-0", "00000000000000000000.log"), log, 0o644); err != nil {
		t.Fatal(err)
	}
	st, err := mmap.Open(t.Context(), mmap.Options{Dirs: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st, want
}

// A log that an old Kafka has left is opened, recovered, read, searched by time and
// appended to; nothing of it is cut.
func TestLogOfAnOldKafka(t *testing.T) {
	t.Parallel()
	tr := codecs(t).Transcoder(0)
	at := newClock().Now().UnixMilli() - 10_000
	for magic := range int8(2) {
		st, want := oldLog(t, magic, at)
		b := start(t, setup{storage: st, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
		p := b.lead(1)
		if first, end := p.Bounds(); first != 0 || end != 40 {
			t.Fatalf("magic %d: the log has %d to %d", magic, first, end)
		}
		produce(t, p, batchOf(3, 10))
		raw := firstRead(t, p)
		var got []said
		batches := 0
		for rest := raw; len(rest) > 0; {
			entry, next, m, err := record.NextEntry(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = next
			if m == record.Magic2 {
				batches++
				continue
			}
			raised, err := record.Raise(entry, tr)
			if err != nil {
				t.Fatal(err)
			}
			if err := record.Check(raised); err != nil {
				t.Fatal(err)
			}
			r := record.NewReader(raised, raised.Payload())
			for r.Next() {
				got = append(got, said{r.Offset(), r.Timestamp(), string(r.View().Key), string(r.View().Value)})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || batches != 1 {
			t.Errorf("magic %d, and %d batches (-want +got):\n%s", magic, batches, diff)
		}
		for i := range want {
			if magic == record.Magic0 {
				break
			}
			o, err := p.Offsets(t.Context(), want[i].Timestamp, -1, replica.ReadUncommitted)
			if err != nil || o.Offset != want[i].Offset || o.Timestamp != want[i].Timestamp {
				t.Errorf("magic %d: the offset for time %d is %+v, %v; want %d", magic, want[i].Timestamp, o, err, want[i].Offset)
			}
		}
		o, err := p.Offsets(t.Context(), replica.MaxTimestampOffset, -1, replica.ReadUncommitted)
		if err != nil || o.Offset < 40 && magic == record.Magic0 {
			t.Errorf("magic %d: the highest time is at %+v, %v", magic, o, err)
		}
	}
}

// After a clean end only the tail is looked at, and it is the same log.
func TestLogOfAnOldKafkaAgain(t *testing.T) {
	t.Parallel()
	at := newClock().Now().UnixMilli() - 10_000
	st, want := oldLog(t, 1, at)
	for range 2 {
		m := start(t, setup{storage: st, change: func(o *replica.Options) { o.Compressors = codecs(t) }})
		p := m.lead(1)
		o, err := p.Offsets(t.Context(), want[33].Timestamp, -1, replica.ReadUncommitted)
		if err != nil || o.Offset != 33 {
			t.Errorf("%+v, %v", o, err)
		}
		infos := m.Partitions()
		if !slices.ContainsFunc(infos, func(i replica.PartitionInfo) bool { return i.Bytes > 0 }) {
			t.Errorf("%+v", infos)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// What an old Kafka has left of a compacted topic is compacted like the rest: of a key
// whose newest record is a batch's, no message stays.
func TestLogOfAnOldKafkaIsCompacted(t *testing.T) {
	t.Parallel()
	at := newClock().Now().UnixMilli() - 10_000
	for magic := range int8(2) {
		st, want := oldLog(t, magic, at)
		m := start(t, setup{storage: st, topic: compactedTopic(), change: func(o *replica.Options) {
			o.Compressors, o.Cleaner = codecs(t), cleanerSettings
		}})
		p := m.lead(1)
		writeKeys(t, p, "a b c d e") // more than a segment
		m.Compact(t.Context())
		raw := firstRead(t, p)
		b, err := record.Raise(raw[:record.LogOverhead+int(binary.BigEndian.Uint32(raw[8:]))], codecs(t).Transcoder(0))
		if err != nil {
			t.Fatal(err)
		}
		r := record.NewReader(b, b.Payload())
		newest := want[len(want)-1]
		if !r.Next() || b.Count() != 1 || r.Offset() != newest.Offset || r.Timestamp() != newest.Timestamp || string(r.View().Value) != newest.Value {
			t.Errorf("magic %d: the log begins with %d records from offset %d on; want %+v alone", magic, b.Count(), b.BaseOffset(), newest)
		}
		if first, end := p.Bounds(); first != 0 || end != 45 {
			t.Errorf("magic %d: the log has %d to %d", magic, first, end)
		}
		if s := m.Compaction(); s.Rounds != 1 || s.Failed != 0 || s.UncleanableLogs != 0 || s.Reclaimed <= 0 {
			t.Errorf("magic %d: %+v", magic, s)
		}
	}
}
