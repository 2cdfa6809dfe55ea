package record_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

const (
	testNow  = int64(1_700_000_000_000)
	testHour = int64(3_600_000)
)

// kafkaRecord and kafkaBatch encode with kmsg, which shares nothing with the code
// under test.
func kafkaRecord(edit func(*kmsg.Record)) []byte {
	r := kmsg.NewRecord()
	r.Key, r.Value = []byte("key"), []byte("value")
	edit(&r)
	r.Length = 0
	body := r.AppendTo(nil)[1:]
	r.Length = int32(len(body))
	return r.AppendTo(nil)
}

func kafkaBatch(records []byte, n int32, edit func(*kmsg.RecordBatch)) record.Batch {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: n - 1,
		FirstTimestamp: testNow, MaxTimestamp: testNow + int64(n) - 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: n, Records: records,
	}
	b.Length = int32(49 + len(records))
	if edit != nil {
		edit(&b)
	}
	raw := b.AppendTo(nil)
	b.CRC = int32(crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b.AppendTo(nil)
}

func kafkaRecords(n int32, edit func(i int32, r *kmsg.Record)) []byte {
	var out []byte
	for i := range n {
		out = append(out, kafkaRecord(func(r *kmsg.Record) {
			r.OffsetDelta, r.TimestampDelta64 = i, int64(i)
			if edit != nil {
				edit(i, r)
			}
		})...)
	}
	return out
}

func reverse(_ record.Codec, dst, src []byte) ([]byte, error) {
	for i := len(src) - 1; i >= 0; i-- {
		dst = append(dst, src[i])
	}
	return dst, nil
}

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	reversed := func(n int32) []byte { p, _ := reverse(0, nil, kafkaRecords(n, nil)); return p }
	for name, c := range map[string]struct {
		batch record.Batch
		rules record.Rules
		want  record.Result
	}{
		"plain":        {kafkaBatch(kafkaRecords(3, nil), 3, nil), record.Rules{}, record.Result{Count: 3, MaxTimestamp: testNow + 2, MaxTimestampIndex: 2}},
		"many records": {kafkaBatch(kafkaRecords(20000, nil), 20000, nil), record.Rules{Compacted: true}, record.Result{Count: 20000, MaxTimestamp: testNow + 19999, MaxTimestampIndex: 19999}},
		"headers, null and empty fields": {kafkaBatch(kafkaRecords(4, func(i int32, r *kmsg.Record) {
			r.Headers = []kmsg.Header{{Key: "", Value: nil}, {Key: strings.Repeat("k", 300), Value: []byte{}}}
			if i&1 == 0 {
				r.Key, r.Value = nil, []byte{}
			} else {
				r.Key, r.Value = []byte{}, nil
			}
		}), 4, nil), record.Rules{}, record.Result{Count: 4, MaxTimestamp: testNow + 3, MaxTimestampIndex: 3}},
		"large value": {kafkaBatch(kafkaRecords(2, func(_ int32, r *kmsg.Record) { r.Value = make([]byte, 70000) }), 2, nil), record.Rules{}, record.Result{Count: 2, MaxTimestamp: testNow + 1, MaxTimestampIndex: 1}},
		"timestamps out of order, max in the header wrong": {kafkaBatch(kafkaRecords(3, func(i int32, r *kmsg.Record) { r.TimestampDelta64 = int64(5 - 7*(i%2)) }), 3, func(b *kmsg.RecordBatch) { b.MaxTimestamp = 1 }),
			record.Rules{}, record.Result{Count: 3, MaxTimestamp: testNow + 5, MaxTimestampIndex: 0}},
		"no timestamp": {kafkaBatch(kafkaRecords(1, nil), 1, func(b *kmsg.RecordBatch) { b.FirstTimestamp, b.MaxTimestamp = -1, -1 }),
			record.Rules{Now: testNow, Before: 1, After: 1}, record.Result{Count: 1, MaxTimestamp: -1}},
		"timestamps at both limits": {kafkaBatch(kafkaRecords(2, func(i int32, r *kmsg.Record) { r.TimestampDelta64 = int64(i)*2*testHour - testHour }), 2, nil),
			record.Rules{Now: testNow, Before: testHour, After: testHour}, record.Result{Count: 2, MaxTimestamp: testNow + testHour, MaxTimestampIndex: 1}},
		"no limits": {kafkaBatch(kafkaRecords(2, func(i int32, r *kmsg.Record) { r.TimestampDelta64 = int64(i) * 1e15 }), 2, nil),
			record.Rules{Now: testNow, Before: math.MaxInt64, After: math.MaxInt64}, record.Result{Count: 2, MaxTimestamp: testNow + 1e15, MaxTimestampIndex: 1}},
		"log append time looks at no timestamp": {kafkaBatch(kafkaRecords(1, nil), 1, nil), record.Rules{Now: 1, LogAppendTime: true}, record.Result{Count: 1, MaxTimestamp: testNow}},
		"compressed":                            {kafkaBatch(reversed(3), 3, func(b *kmsg.RecordBatch) { b.Attributes = 4 }), record.Rules{Decompress: reverse}, record.Result{Count: 3, MaxTimestamp: testNow + 2, MaxTimestampIndex: 2}},
		"compressed, behind a buffer":           {kafkaBatch(reversed(3), 3, func(b *kmsg.RecordBatch) { b.Attributes = 1 }), record.Rules{Decompress: reverse, Buffer: []byte("used")}, record.Result{Count: 3, MaxTimestamp: testNow + 2, MaxTimestampIndex: 2}},
		"unused attribute bits":                 {kafkaBatch(kafkaRecords(1, nil), 1, func(b *kmsg.RecordBatch) { b.Attributes = 0x7f80 }), record.Rules{}, record.Result{Count: 1, MaxTimestamp: testNow}},
		"idempotent and transactional": {kafkaBatch(kafkaRecords(1, nil), 1, func(b *kmsg.RecordBatch) {
			b.ProducerID, b.ProducerEpoch, b.FirstSequence, b.Attributes = 0, 0, 0, 0x10
		}), record.Rules{}, record.Result{Count: 1, MaxTimestamp: testNow}},
		"exactly at the size limit": {kafkaBatch(kafkaRecords(1, nil), 1, nil), record.Rules{MaxBytes: len(kafkaBatch(kafkaRecords(1, nil), 1, nil))}, record.Result{Count: 1, MaxTimestamp: testNow}},
		"the broker's own control batch": {record.AppendEndTxn(nil, record.BatchInfo{BaseOffset: 9, FirstTimestamp: testNow, ProducerID: 3}, record.EndTxn{Commit: true}),
			record.Rules{Internal: true}, record.Result{Count: 1, MaxTimestamp: testNow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := string(c.batch)
			got, err := record.Validate(c.batch, &c.rules)
			if err != nil {
				t.Fatal(err)
			}
			if string(c.batch) != before {
				t.Error("Validate changed the batch")
			}
			want, err := c.batch.Records(reverse, nil)
			if err != nil || string(got.Records) != string(want) {
				t.Errorf("records differ (%v)", err)
			}
			got.Records = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	errBroken := errors.New("broken")
	good := kafkaRecords(3, nil)
	header := func(edit func(*kmsg.RecordBatch)) record.Batch { return kafkaBatch(good, 3, edit) }
	body := func(edit func(i int32, r *kmsg.Record)) record.Batch {
		return kafkaBatch(kafkaRecords(3, edit), 3, nil)
	}
	one := func(records ...byte) record.Batch { return kafkaBatch(records, 1, nil) }
	limits := record.Rules{Now: testNow, Before: testHour, After: testHour}

	for name, c := range map[string]struct {
		batch   record.Batch
		rules   record.Rules
		kind    record.Kind
		message string
		records []int32
	}{
		"too short":           {header(nil)[:60], record.Rules{}, record.KindCorrupt, "smaller than the minimum", nil},
		"truncated":           {header(nil)[:80], record.Rules{}, record.KindCorrupt, "claims", nil},
		"a byte too many":     {append(header(nil), 0), record.Rules{}, record.KindCorrupt, "claims", nil},
		"magic 1":             {header(func(b *kmsg.RecordBatch) { b.Magic = 1 }), record.Rules{}, record.KindOldFormat, "magic 1", nil},
		"magic 3":             {header(func(b *kmsg.RecordBatch) { b.Magic = 3 }), record.Rules{}, record.KindCorrupt, "magic", nil},
		"base offset":         {header(func(b *kmsg.RecordBatch) { b.FirstOffset = 1 }), record.Rules{}, record.KindInvalidRecord, "baseOffset", nil},
		"too large":           {header(nil), record.Rules{MaxBytes: len(header(nil)) - 1}, record.KindTooLarge, "exceeds the maximum", nil},
		"crc":                 {func() record.Batch { b := header(nil); b[17]++; return b }(), record.Rules{}, record.KindCorrupt, "crc", nil},
		"codec 5":             {header(func(b *kmsg.RecordBatch) { b.Attributes = 5 }), record.Rules{Decompress: reverse}, record.KindUnsupportedCodec, "compression type id: 5", nil},
		"codec 7":             {header(func(b *kmsg.RecordBatch) { b.Attributes = 7 }), record.Rules{Decompress: reverse}, record.KindUnsupportedCodec, "compression type id: 7", nil},
		"no decompressor":     {header(func(b *kmsg.RecordBatch) { b.Attributes = 1 }), record.Rules{}, record.KindUnsupportedCodec, "compression type", nil},
		"control":             {header(func(b *kmsg.RecordBatch) { b.Attributes = 0x20 }), record.Rules{}, record.KindInvalidRecord, "control records", nil},
		"log append time":     {header(func(b *kmsg.RecordBatch) { b.Attributes = 8 }), record.Rules{LogAppendTime: true}, record.KindInvalidTimestamp, "LogAppendTime", nil},
		"negative last":       {header(func(b *kmsg.RecordBatch) { b.LastOffsetDelta = -1 }), record.Rules{}, record.KindInvalidRecord, "offset range", nil},
		"no records":          {kafkaBatch(nil, 0, func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 0 }), record.Rules{}, record.KindInvalidRecord, "Invalid reported count", nil},
		"negative count":      {header(func(b *kmsg.RecordBatch) { b.NumRecords = -1 }), record.Rules{}, record.KindInvalidRecord, "Invalid reported count", nil},
		"count and last":      {header(func(b *kmsg.RecordBatch) { b.LastOffsetDelta = 3 }), record.Rules{}, record.KindInvalidRecord, "Inconsistent", nil},
		"last at the limit":   {header(func(b *kmsg.RecordBatch) { b.LastOffsetDelta, b.NumRecords = math.MaxInt32, math.MinInt32 }), record.Rules{}, record.KindInvalidRecord, "count", nil},
		"sequence":            {header(func(b *kmsg.RecordBatch) { b.ProducerID, b.ProducerEpoch = 1, 0 }), record.Rules{}, record.KindInvalidRecord, "sequence number -1", nil},
		"producer epoch":      {header(func(b *kmsg.RecordBatch) { b.ProducerID, b.FirstSequence = 1, 0 }), record.Rules{}, record.KindInvalidRecord, "producer epoch -1", nil},
		"transaction of none": {header(func(b *kmsg.RecordBatch) { b.Attributes = 0x10 }), record.Rules{}, record.KindInvalidRecord, "needs a producer id", nil},

		"fewer records than counted": {kafkaBatch(good, 4, nil), record.Rules{}, record.KindInvalidRecord, "Record 3 is malformed", []int32{3}},
		"more records than counted":  {kafkaBatch(good, 2, nil), record.Rules{}, record.KindInvalidRecord, "still remaining", nil},
		"a byte after the records":   {kafkaBatch(append(good[:len(good):len(good)], 0), 3, nil), record.Rules{}, record.KindInvalidRecord, "still remaining", nil},
		"offset deltas with a gap":   {body(func(i int32, r *kmsg.Record) { r.OffsetDelta = 2 * i }), record.Rules{}, record.KindInvalidRecord, "offset delta 2", []int32{1}},
		"offset deltas from 1":       {body(func(i int32, r *kmsg.Record) { r.OffsetDelta = i + 1 }), record.Rules{}, record.KindInvalidRecord, "offset delta 1", []int32{0}},
		"compacted without keys": {body(func(i int32, r *kmsg.Record) {
			if i != 1 {
				r.Key = nil
			}
		}), record.Rules{Compacted: true}, record.KindInvalidRecord, "2 record errors in total", []int32{0, 2}},
		"too old":          {body(func(i int32, r *kmsg.Record) { r.TimestampDelta64 = -int64(i) * testHour }), limits, record.KindInvalidTimestamp, "invalid timestamp", []int32{2}},
		"too new":          {body(func(i int32, r *kmsg.Record) { r.TimestampDelta64 = int64(i)*testHour + int64(i) }), limits, record.KindInvalidTimestamp, "invalid timestamp", []int32{1, 2}},
		"far too new":      {body(func(_ int32, r *kmsg.Record) { r.TimestampDelta64 = math.MaxInt64 - testNow }), record.Rules{Now: testNow, Before: math.MaxInt64, After: testHour}, record.KindInvalidTimestamp, "invalid timestamp", []int32{0, 1, 2}},
		"before the epoch": {body(func(_ int32, r *kmsg.Record) { r.TimestampDelta64 = -testNow - 2 }), limits, record.KindInvalidTimestamp, "invalid timestamp", []int32{0, 1, 2}},
		"key and timestamp": {body(func(i int32, r *kmsg.Record) {
			if i == 0 {
				r.Key = nil
			}
			r.TimestampDelta64 = int64(i) * testHour
		}), record.Rules{Now: testNow, Before: testHour, After: testHour, Compacted: true}, record.KindInvalidTimestamp, "invalid timestamp", []int32{0, 2}},

		"record of no bytes":        {one(0), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"negative record length":    {one(1), record.Rules{}, record.KindInvalidRecord, "length", []int32{0}},
		"record past the end":       {one(20, 0, 0, 0, 1, 1, 0), record.Rules{}, record.KindInvalidRecord, "length", []int32{0}},
		"endless varint":            {one(0x8c, 0x80, 0x80, 0x80, 0x80, 0x80, 0), record.Rules{}, record.KindInvalidRecord, "length", []int32{0}},
		"endless timestamp":         {one(append([]byte{26, 0}, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00\x00"...)...), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"key past the end":          {one(12, 0, 0, 0, 8, 1, 0), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"value past the end":        {one(12, 0, 0, 0, 1, 4, 0), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"negative header count":     {one(12, 0, 0, 0, 1, 1, 1), record.Rules{}, record.KindInvalidRecord, "number of headers", []int32{0}},
		"too many headers":          {one(12, 0, 0, 0, 1, 1, 126), record.Rules{}, record.KindInvalidRecord, "number of headers", []int32{0}},
		"null header key":           {one(16, 0, 0, 0, 1, 1, 2, 1, 0), record.Rules{}, record.KindInvalidRecord, "null key", []int32{0}},
		"header key past the end":   {one(16, 0, 0, 0, 1, 1, 2, 8, 0), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"header value past the end": {one(16, 0, 0, 0, 1, 1, 2, 0, 8), record.Rules{}, record.KindInvalidRecord, "cut off", []int32{0}},
		"bytes after the headers":   {one(14, 0, 0, 0, 1, 1, 0, 0), record.Rules{}, record.KindInvalidRecord, "left over", []int32{0}},

		"garbage inside the codec": {header(func(b *kmsg.RecordBatch) { b.Attributes = 2 }), record.Rules{Decompress: func(record.Codec, []byte, []byte) ([]byte, error) { return nil, errBroken }}, record.KindInvalidRecord, "snappy", nil},
		"a bomb": {header(func(b *kmsg.RecordBatch) { b.Attributes = 2 }), record.Rules{Decompress: func(record.Codec, []byte, []byte) ([]byte, error) {
			return nil, record.NewTooLarge(7, errBroken)
		}}, record.KindTooLarge, "7 bytes", nil},
		"malformed inside the codec": {header(func(b *kmsg.RecordBatch) { b.Attributes = 2 }), record.Rules{Decompress: reverse}, record.KindInvalidRecord, "malformed", []int32{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := record.Validate(c.batch, &c.rules)
			v, ok := record.AsValidationError(err)
			if !ok {
				t.Fatalf("Validate: %v", err)
			}
			if v.Kind != c.kind || !strings.Contains(v.Message, c.message) {
				t.Errorf("Validate: %v, want %v with %q", err, c.kind, c.message)
			}
			if errors.Is(err, record.ErrCorrupt) != (c.kind == record.KindCorrupt) {
				t.Errorf("errors.Is(%v, ErrCorrupt) is wrong", err)
			}
			var indexes []int32
			for _, r := range v.Records {
				indexes = append(indexes, r.Index)
				if r.Message == "" {
					t.Errorf("record %d has no message", r.Index)
				}
			}
			if diff := cmp.Diff(c.records, indexes); diff != "" {
				t.Errorf("records to blame (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateBoundsRecordErrors(t *testing.T) {
	t.Parallel()
	b := kafkaBatch(kafkaRecords(5000, func(_ int32, r *kmsg.Record) { r.Key = nil }), 5000, nil)
	_, err := record.Validate(b, &record.Rules{Compacted: true})
	v, ok := record.AsValidationError(err)
	if !ok || len(v.Records) != record.MaxRecordErrors || !strings.Contains(v.Message, "5000 record errors") {
		t.Fatalf("Validate: %v with %d records", err, len(v.Records))
	}
}

func TestValidateFindsEveryFlippedBit(t *testing.T) {
	t.Parallel()
	b := kafkaBatch(kafkaRecords(3, nil), 3, nil)
	for i := range b {
		if i >= 12 && i < 16 {
			continue // the leader epoch: the broker sets it
		}
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := record.Validate(b, &record.Rules{}); err == nil {
				t.Errorf("byte %d bit %d flipped, and Validate says nothing", i, bit)
			}
			b[i] ^= 1 << bit
		}
	}
}

// With the checksum made right again, damage reaches the fields and the records:
// nothing may panic, and what passes must still read.
func TestValidateSurvivesEveryFlippedByte(t *testing.T) {
	t.Parallel()
	good := kafkaBatch(kafkaRecords(3, func(_ int32, r *kmsg.Record) {
		r.Headers = []kmsg.Header{{Key: "h", Value: []byte("v")}}
	}), 3, nil)
	for i := 21; i < len(good); i++ {
		for x := 1; x < 256; x++ {
			b := append(record.Batch(nil), good...)
			b[i] ^= byte(x)
			b.SetCRC()
			checkReadable(t, b)
		}
	}
}

// checkReadable holds Validate against Reader, which shares no fast path with it.
func checkReadable(t *testing.T, b record.Batch) {
	t.Helper()
	res, err := record.Validate(b, &record.Rules{Decompress: reverse})
	if err != nil {
		if _, ok := record.AsValidationError(err); !ok {
			t.Fatalf("Validate: %T %v", err, err)
		}
		return
	}
	r := record.NewReader(b, res.Records)
	maxTS, maxIndex := record.NoTimestamp, int32(0)
	n := int32(0)
	for ; r.Next(); n++ {
		if r.View().OffsetDelta != n || r.Index() != n {
			t.Fatalf("record %d has offset delta %d", n, r.View().OffsetDelta)
		}
		if r.Timestamp() > maxTS {
			maxTS, maxIndex = r.Timestamp(), n
		}
		headers := 0
		for range r.View().Headers() {
			headers++
		}
		if headers != r.View().HeaderCount() {
			t.Fatalf("record %d: %d headers of %d", n, headers, r.View().HeaderCount())
		}
	}
	if r.Err() != nil || n != res.Count || maxTS != res.MaxTimestamp || maxIndex != res.MaxTimestampIndex {
		t.Fatalf("Reader: %d records, max timestamp %d at %d, %v; Validate says %+v", n, maxTS, maxIndex, r.Err(), res)
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	b := kafkaBatch(kafkaRecords(100, nil), 100, nil)
	rules := &record.Rules{Now: testNow, Before: testHour, After: testHour, Compacted: true}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := record.Validate(b, rules); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Validate allocates %v times", n)
	}
}

func TestSetCreateTime(t *testing.T) {
	t.Parallel()
	b := kafkaBatch(kafkaRecords(3, nil), 3, func(b *kmsg.RecordBatch) { b.MaxTimestamp, b.Attributes = 1, 8 })
	b.SetCreateTime(testNow + 2)
	want := kafkaBatch(kafkaRecords(3, nil), 3, nil)
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("SetCreateTime (-want +got):\n%s", diff)
	}
	crc := binary.BigEndian.Uint32(b[17:]) + 1
	binary.BigEndian.PutUint32(b[17:], crc)
	if b.SetCreateTime(testNow + 2); b.CRC() != crc {
		t.Error("SetCreateTime computed the checksum again for nothing")
	}
}
