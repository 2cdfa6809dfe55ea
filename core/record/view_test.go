package record_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

func sampleRecords() []record.Record {
	return []record.Record{
		{Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "b", Value: []byte{}}}},
		{OffsetDelta: 1, TimestampDelta: -5, Key: nil, Value: []byte{}},
		{OffsetDelta: 2, TimestampDelta: 1 << 40, Key: []byte{}, Value: nil},
		{OffsetDelta: 7, TimestampDelta: 100, Value: make([]byte, 20000)}, // the gap of a compacted batch
	}
}

func TestBuildIsWhatAnotherEncoderMakes(t *testing.T) {
	t.Parallel()
	records := sampleRecords()
	info := record.NewBatchInfo(42, testNow)
	info.LeaderEpoch, info.ProducerID, info.ProducerEpoch, info.BaseSequence, info.Transactional = 7, 1<<40, 3, 9, true
	got, err := record.AppendBatch(nil, info, records, nil)
	if err != nil {
		t.Fatal(err)
	}
	var payload []byte
	for i := range records {
		payload = append(payload, kafkaRecord(func(r *kmsg.Record) {
			s := &records[i]
			r.OffsetDelta, r.TimestampDelta64, r.Key, r.Value = s.OffsetDelta, s.TimestampDelta, s.Key, s.Value
			for _, h := range s.Headers {
				r.Headers = append(r.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
			}
		})...)
	}
	want := kafkaBatch(payload, 4, func(b *kmsg.RecordBatch) {
		b.FirstOffset, b.PartitionLeaderEpoch, b.LastOffsetDelta, b.Attributes = 42, 7, 7, 0x10
		b.MaxTimestamp, b.ProducerID, b.ProducerEpoch, b.FirstSequence = testNow+1<<40, 1<<40, 3, 9
	})
	if diff := cmp.Diff([]byte(want), got); diff != "" {
		t.Errorf("AppendBatch (-kmsg +got):\n%s", diff)
	}
}

func TestReaderRoundTrip(t *testing.T) {
	t.Parallel()
	want := sampleRecords()
	raw, err := record.AppendBatch(nil, record.NewBatchInfo(42, testNow), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := record.Batch(raw)
	r := record.NewReader(b, b.Payload())
	var got []record.Record
	for r.Next() {
		got = append(got, r.View().Record())
		last := &got[len(got)-1]
		if r.Offset() != 42+int64(last.OffsetDelta) || r.Timestamp() != testNow+last.TimestampDelta {
			t.Errorf("record %d: offset %d, timestamp %d", r.Index(), r.Offset(), r.Timestamp())
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if r.Next() {
		t.Error("Next after the end")
	}
}

func TestReaderErrors(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]record.Batch{
		"fewer records": kafkaBatch(kafkaRecords(2, nil), 3, nil),
		"more records":  kafkaBatch(kafkaRecords(4, nil), 3, nil),
		"bad count":     kafkaBatch(nil, -1, nil),
	} {
		r := record.NewReader(b, b.Payload())
		for r.Next() {
		}
		if v, ok := record.AsValidationError(r.Err()); !ok || v.Kind != record.KindInvalidRecord {
			t.Errorf("%s: %v", name, r.Err())
		}
		if r.Next() {
			t.Errorf("%s: Next after an error", name)
		}
	}
	empty := kafkaBatch(nil, 0, nil) // compaction leaves such batches
	r := record.NewReader(empty, empty.Payload())
	if r.Next() || r.Err() != nil {
		t.Errorf("empty batch: %v", r.Err())
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	plain := kafkaBatch([]byte("abc"), 1, nil)
	if got, err := plain.Records(nil, nil); err != nil || string(got) != "abc" {
		t.Errorf("plain: %q, %v", got, err)
	}
	packed := kafkaBatch([]byte("abc"), 1, func(b *kmsg.RecordBatch) { b.Attributes = 3 })
	buf := append(make([]byte, 0, 64), "in front"...)
	got, err := packed.Records(reverse, buf)
	if err != nil || string(got) != "cba" || string(buf) != "in front" {
		t.Errorf("packed: %q, %v", got, err)
	}
	boom := errors.New("boom")
	if _, err := packed.Records(func(record.Codec, []byte, []byte) ([]byte, error) { return nil, boom }, nil); !errors.Is(err, boom) {
		t.Errorf("failing codec: %v", err)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	deltas := []int64{0, 5, 3, 9, 9, 1}
	payload := kafkaRecords(6, func(i int32, r *kmsg.Record) { r.TimestampDelta64 = deltas[i] })
	b := kafkaBatch(payload, 6, func(b *kmsg.RecordBatch) { b.FirstOffset, b.MaxTimestamp = 100, testNow+9 })
	appendTime := kafkaBatch(payload, 6, func(b *kmsg.RecordBatch) {
		b.FirstOffset, b.MaxTimestamp, b.Attributes = 100, testNow+77, 8
	})
	for _, c := range []struct {
		b        record.Batch
		from, ms int64
		want     record.Found
		ok       bool
	}{
		{b, 0, 0, record.Found{Offset: 100, Timestamp: testNow}, true},
		{b, 0, testNow + 1, record.Found{Offset: 101, Timestamp: testNow + 5}, true},
		{b, 102, testNow + 1, record.Found{Offset: 102, Timestamp: testNow + 3}, true},
		{b, 0, testNow + 6, record.Found{Offset: 103, Timestamp: testNow + 9}, true},
		{b, 105, testNow + 2, record.Found{}, false},
		{b, 0, testNow + 10, record.Found{}, false},
		{appendTime, 0, testNow + 10, record.Found{Offset: 100, Timestamp: testNow + 77}, true},
		{appendTime, 104, testNow + 77, record.Found{Offset: 104, Timestamp: testNow + 77}, true},
		{appendTime, 0, testNow + 78, record.Found{}, false},
	} {
		got, ok, err := record.FindTimestamp(c.b, payload, c.from, c.ms)
		if err != nil || ok != c.ok || got != c.want {
			t.Errorf("FindTimestamp(from %d, now%+d): %v %v %v, want %v", c.from, c.ms-testNow, got, ok, err, c.want)
		}
	}
	if got, ok, err := record.FindMaxTimestamp(b, payload, 0); err != nil || !ok || got != (record.Found{Offset: 103, Timestamp: testNow + 9}) {
		t.Errorf("FindMaxTimestamp: %v %v %v", got, ok, err)
	}
	if got, ok, err := record.FindMaxTimestamp(b, payload, 105); err != nil || !ok || got != (record.Found{Offset: 105, Timestamp: testNow + 1}) {
		t.Errorf("FindMaxTimestamp from 105: %v %v %v", got, ok, err)
	}
	if got, ok, err := record.FindMaxTimestamp(appendTime, payload, 0); err != nil || !ok || got != (record.Found{Offset: 100, Timestamp: testNow + 77}) {
		t.Errorf("FindMaxTimestamp with log append time: %v %v %v", got, ok, err)
	}
	if _, _, err := record.FindTimestamp(b, payload[:10], 0, testNow+9); err == nil {
		t.Error("FindTimestamp in malformed records says nothing")
	}
	if _, _, err := record.FindMaxTimestamp(b, payload[:10], 0); err == nil {
		t.Error("FindMaxTimestamp in malformed records says nothing")
	}
}

func TestEndTxn(t *testing.T) {
	t.Parallel()
	for _, want := range []record.EndTxn{{Commit: true, CoordinatorEpoch: 5}, {CoordinatorEpoch: 1 << 30}} {
		b := record.Batch(record.AppendEndTxn(nil, record.BatchInfo{
			BaseOffset: 9, LeaderEpoch: 2, FirstTimestamp: testNow, ProducerID: 77, ProducerEpoch: 4, Codec: record.Zstd,
		}, want))
		if err := record.Check(b); err != nil {
			t.Fatal(err)
		}
		if !b.IsControl() || !b.IsTransactional() || b.Codec() != record.None || b.BaseSequence() != record.NoSequence ||
			b.ProducerID() != 77 || b.ProducerEpoch() != 4 || b.MaxTimestamp() != testNow || b.BaseOffset() != 9 || b.LeaderEpoch() != 2 {
			t.Errorf("marker batch %x", []byte(b))
		}
		// kmsg's decoder is the independent reader of key and value.
		r := record.NewReader(b, b.Payload())
		if !r.Next() {
			t.Fatal(r.Err())
		}
		key, value := kmsg.NewControlRecordKey(), kmsg.NewEndTxnMarker()
		if err := key.ReadFrom(r.View().Key); err != nil || (key.Type == kmsg.ControlRecordKeyTypeCommit) != want.Commit {
			t.Errorf("key %+v, %v", key, err)
		}
		if err := value.ReadFrom(r.View().Value); err != nil || value.CoordinatorEpoch != want.CoordinatorEpoch {
			t.Errorf("value %+v, %v", value, err)
		}
		if got, ok, err := record.ParseEndTxn(r.View().Key, r.View().Value); err != nil || !ok || got != want {
			t.Errorf("ParseEndTxn: %+v %v %v, want %+v", got, ok, err, want)
		}
	}
	for _, c := range []struct {
		key, value []byte
		ok, fails  bool
	}{
		{[]byte{0, 0, 0, 1, 9}, []byte{0, 1, 0, 0, 0, 1, 9}, true, false}, // later versions add fields
		{[]byte{0, 0, 0, 2}, nil, false, false},                           // another type
		{[]byte{0, 0, 0}, []byte{0, 0, 0, 0, 0, 1}, false, true},
		{[]byte{0x80, 0, 0, 1}, []byte{0, 0, 0, 0, 0, 1}, false, true},
		{[]byte{0, 0, 0, 1}, []byte{0, 0, 0, 0, 0}, false, true},
		{[]byte{0, 0, 0, 1}, []byte{0x80, 0, 0, 0, 0, 1}, false, true},
	} {
		if _, ok, err := record.ParseEndTxn(c.key, c.value); ok != c.ok || (err != nil) != c.fails {
			t.Errorf("ParseEndTxn(%x, %x): %v %v", c.key, c.value, ok, err)
		}
	}
}
