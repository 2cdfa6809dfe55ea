package record_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace/millrace/core/record"
)

func addBatches(f *testing.F) {
	f.Helper()
	one := kafkaBatch(kafkaRecords(1, nil), 1, nil)
	many := kafkaBatch(kafkaRecords(100, func(_ int32, r *kmsg.Record) {
		r.Headers = []kmsg.Header{{Key: "h"}, {Key: "i", Value: []byte("v")}}
	}), 100, nil)
	packed, err := reverse(0, nil, kafkaRecords(3, nil))
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range [][]byte{
		nil, one, many, append(one[:len(one):len(one)], many...), one[:70],
		kafkaBatch(packed, 3, func(b *kmsg.RecordBatch) { b.Attributes = 4 }),
		kafkaBatch([]byte{12, 0, 0, 0, 1, 1, 126}, 1, nil),
		record.AppendEndTxn(nil, record.BatchInfo{}, record.EndTxn{Commit: true}),
		legacyMessage(0), legacyMessage(1),
	} {
		f.Add(b)
	}
}

func FuzzBatches(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		run := record.Batches(raw)
		total := 0
		sound := true
		for b := range run.All() {
			if len(b) != b.Size() {
				t.Fatalf("batch of %d bytes claims %d", len(b), b.Size())
			}
			total += len(b)
			sound = sound && record.Check(b) == nil
		}
		sound = sound && total == len(raw)
		if err := run.Check(); (err == nil) != sound {
			t.Fatalf("Check of the run: %v, of its batches: %v", err, sound)
		}
		for rest := raw; len(rest) > 0; {
			entry, r, _, err := record.NextEntry(rest)
			if err != nil {
				break
			}
			if len(entry) == 0 || len(entry)+len(r) != len(rest) {
				t.Fatalf("NextEntry split %d bytes into %d and %d", len(rest), len(entry), len(r))
			}
			rest = r
		}
		if b, err := record.SingleBatch(raw); err == nil && len(b) != len(raw) {
			t.Fatal("SingleBatch left bytes over")
		}
	})
}

// FuzzValidate makes the checksum and the size right, so that the fields and the
// records are reached.
func FuzzValidate(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := record.Validate(raw, &record.Rules{}); err == nil {
			checkReadable(t, raw)
		}
		if len(raw) < record.HeaderSize {
			return
		}
		b := append(record.Batch(nil), raw...)
		size := len(b) - record.LogOverhead
		b[8], b[9], b[10], b[11], b[16] = byte(size>>24), byte(size>>16), byte(size>>8), byte(size), 2
		b.SetCRC()
		if err := record.Check(b); err != nil {
			t.Fatal(err)
		}
		checkReadable(t, b)
	})
}

// FuzzReader reads records behind a header that counts them, encodes what it read
// and reads that again.
func FuzzReader(f *testing.F) {
	f.Add(int32(3), kafkaRecords(3, nil))
	f.Add(int32(1), []byte{16, 0, 0, 0, 1, 1, 2, 0, 1})
	f.Add(int32(1), []byte{0x94, 0x80, 0, 0, 0x80, 0x80, 0, 0x80, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, count int32, payload []byte) {
		read := func(count int32, payload []byte) ([]record.Record, error) {
			var out []record.Record
			r := record.NewReader(kafkaBatch(nil, count, nil), payload)
			for r.Next() {
				out = append(out, r.View().Record())
			}
			return out, r.Err()
		}
		records, err := read(count, payload)
		if err != nil {
			if _, ok := record.AsValidationError(err); !ok {
				t.Fatalf("Reader: %T %v", err, err)
			}
			return
		}
		if int32(len(records)) != count {
			t.Fatalf("%d records, want %d", len(records), count)
		}
		var again []byte
		for i := range records {
			again = record.AppendRecord(again, &records[i])
		}
		second, err := read(count, again)
		if err != nil || len(second) != len(records) {
			t.Fatalf("second reading: %d records, %v", len(second), err)
		}
		var third []byte
		for i := range second {
			third = record.AppendRecord(third, &second[i])
		}
		if string(third) != string(again) {
			t.Fatal("a record changed on its way through encoder and reader")
		}
	})
}
