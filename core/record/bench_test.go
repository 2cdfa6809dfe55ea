package record_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/core/record"
)

func benchBatch(b *testing.B, size, n, headers int) record.Batch {
	b.Helper()
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{
			OffsetDelta: int32(i), TimestampDelta: int64(i / 10),
			Key: []byte("key-0001"), Value: bytes.Repeat([]byte{'v'}, size-8),
		}
		for range headers {
			records[i].Headers = append(records[i].Headers, record.Header{Key: "trace-id", Value: []byte("0123456789abcdef")})
		}
	}
	batch, err := record.AppendBatch(nil, record.NewBatchInfo(0, 1_700_000_000_000), records, nil)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// BenchmarkValidate reports the time for each record, of which crc-ns/record is
// the checksum's part (BenchmarkCheck).
func BenchmarkValidate(b *testing.B) {
	for _, c := range []struct{ size, n, headers int }{{100, 1000, 0}, {100, 1000, 2}, {1024, 100, 0}, {1024, 1000, 0}} {
		batch := benchBatch(b, c.size, c.n, c.headers)
		rules := &record.Rules{MaxBytes: 16 << 20, Now: 1_700_000_000_000, Before: 1 << 62, After: 3_600_000, Compacted: true}
		b.Run(fmt.Sprintf("size=%d/records=%d/headers=%d", c.size, c.n, c.headers), func(b *testing.B) {
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := record.Validate(batch, rules); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.n), "ns/record")
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct{ size, n int }{{100, 1000}, {1024, 100}, {1024, 1000}} {
		batch := benchBatch(b, c.size, c.n, 0)
		b.Run(fmt.Sprintf("size=%d/records=%d", c.size, c.n), func(b *testing.B) {
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := record.Check(batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.n), "ns/record")
		})
	}
}

func BenchmarkReader(b *testing.B) {
	batch := benchBatch(b, 100, 1000, 2)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := record.NewReader(batch, batch.Payload())
		for r.Next() {
			for h := range r.View().Headers() {
				n += len(h.Key)
			}
		}
		if r.Err() != nil {
			b.Fatal(r.Err())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/record")
}

// BenchmarkUpConversion makes a batch of a message set of 100 records and validates
// it, beside the validation alone of the same records as a batch, which is what a new
// producer's cost. The two take turns. Both are without compression; with it, each
// opens and an old producer's are compressed once more.
func BenchmarkUpConversion(b *testing.B) {
	for magic := range int8(2) {
		for _, size := range []int{100, 1024} {
			b.Run(fmt.Sprintf("magic=%d/size=%d", magic, size), func(b *testing.B) {
				batch := benchBatch(b, size, 100, 0)
				tr := transcoder(b)
				set, err := record.NewDownConverter(magic, tr).Append(nil, batch)
				if err != nil {
					b.Fatal(err)
				}
				rules := &record.Rules{MaxBytes: 16 << 20}
				var dst []byte
				old, plain := time.Hour, time.Hour // the shortest of each
				validate := func(raw record.Batch) {
					if _, err := record.Validate(raw, rules); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(batch)))
				for b.Loop() {
					start := time.Now()
					u := record.UpConversion{Transcoder: tr}
					up, err := u.Append(dst[:0], set)
					if err != nil {
						b.Fatal(err)
					}
					dst = up.Batches
					validate(dst)
					mid := time.Now()
					validate(batch)
					old, plain = min(old, mid.Sub(start)), min(plain, time.Since(mid))
				}
				mb := float64(len(batch)) / 1e6
				b.ReportMetric(mb/old.Seconds(), "converted-MB/s")
				b.ReportMetric(mb/plain.Seconds(), "plain-MB/s")
				b.ReportMetric(float64(old)/float64(plain), "converted/plain")
			})
		}
	}
}
