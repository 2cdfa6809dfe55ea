package convert_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/convert"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/compression/compressiontest"
)

// drain reads a slice as the sender does: 64 KiB at a time.
func drain(b *testing.B, s core.Slice, buf []byte) {
	b.Helper()
	for at := 0; at < s.Len(); {
		n, err := s.ReadAt(buf[:min(len(buf), s.Len()-at)], int64(at))
		if err != nil && err != io.EOF { //nolint:errorlint // it comes as it is
			b.Fatal(err)
		}
		at += n
	}
}

// benchLog is a run of batches whose values are log lines.
func benchLog(tb testing.TB, tr record.Transcoder, codec record.Codec, batches, records, size int) []byte {
	tb.Helper()
	text := compressiontest.Text(batches * records * size)
	var compress func(dst, src []byte) ([]byte, error)
	if codec != record.None {
		compress = func(dst, src []byte) ([]byte, error) { return tr.Compress(codec, record.Magic2, dst, src) }
	}
	var log []byte
	for i := range batches {
		info := record.NewBatchInfo(int64(i*records), 1000)
		info.Codec, info.LeaderEpoch = codec, 1
		rs := make([]record.Record, records)
		for j := range rs {
			rs[j] = record.Record{OffsetDelta: int32(j), TimestampDelta: int64(j), Value: text[:size]}
			text = text[size:]
		}
		var err error
		if log, err = record.AppendBatch(log, info, rs, compress); err != nil {
			tb.Fatal(err)
		}
	}
	return log
}

// BenchmarkDownConversion sends 1 MiB of records in batches of 16 KiB before
// compression to an old client: converted each time, from the cache, and, as a
// ceiling, read without any conversion. The three take turns. A byte is one of the records, uncompressed. converted/cached is
// the gain of the cache.
func BenchmarkDownConversion(b *testing.B) {
	tr := transcoder(b)
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4} {
		for magic := range int8(2) {
			b.Run(fmt.Sprintf("%s/magic=%d", codec, magic), func(b *testing.B) {
				const batches, records, size = 64, 64, 220
				log := benchLog(b, tr, codec, batches, records, size)
				cold, _ := newConverter(b, 0)
				warm, cache := newConverter(b, 64<<20)
				buf := make([]byte, 64<<10)
				send := func(c *convert.Converter) time.Duration {
					start := time.Now()
					s, err := c.Messages(&source{data: log}, convert.Request{Partition: id(1), Magic: magic, Keep: true})
					if err != nil {
						b.Fatal(err)
					}
					drain(b, s, buf)
					_ = s.Close()
					return time.Since(start)
				}
				send(warm)
				cache.Wait()
				// The shortest of each counts: what others on the machine cost is not meant.
				converted, cached, plain := time.Hour, time.Hour, time.Hour
				b.SetBytes(batches * records * size)
				b.ResetTimer()
				for b.Loop() {
					converted = min(converted, send(cold))
					cached = min(cached, send(warm))
					start := time.Now()
					drain(b, &source{data: log}, buf)
					plain = min(plain, time.Since(start))
				}
				mb := float64(batches*records*size) / 1e6
				b.ReportMetric(mb/converted.Seconds(), "converted-MB/s")
				b.ReportMetric(mb/cached.Seconds(), "cached-MB/s")
				b.ReportMetric(mb/plain.Seconds(), "plain-MB/s")
				b.ReportMetric(float64(converted)/float64(cached), "converted/cached")
			})
		}
	}
}
