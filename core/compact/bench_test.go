package compact_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/mmap"
)

// benchLog writes about total bytes in closed segments, in batches of 16 KiB, half of
// whose records are superseded.
func benchLog(tb testing.TB, dir string, total, valueBytes int, codec record.Codec) (*mmap.Storage, core.Log, core.LogConfig) {
	tb.Helper()
	s, err := mmap.Open(context.Background(), mmap.Options{Dirs: []string{dir}})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := core.DefaultLogConfig()
	cfg.SegmentBytes, cfg.DeleteDelay = 64<<20, 0
	l, _, err := s.Open(context.Background(), id(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	perBatch := max(1, 16<<10/(valueBytes+30))
	keys := total / (valueBytes + 30) / 2
	value := make([]byte, valueBytes)
	for i := range value {
		value[i] = byte(i*7919>>3) | 1
	}
	n := 0
	for written := 0; written < total; {
		rs := make([]record.Record, perBatch)
		for i := range rs {
			rs[i] = record.Record{OffsetDelta: int32(i), TimestampDelta: int64(i), Key: fmt.Appendf(nil, "key-%012d", n*7919%keys), Value: value}
			n++
		}
		i := record.NewBatchInfo(int64(n-perBatch), 1_700_000_000_000)
		i.Codec = codec
		var compress func(dst, src []byte) ([]byte, error)
		if codec != record.None {
			compress = func(dst, src []byte) ([]byte, error) {
				return testCompressors[codec].Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
			}
		}
		b, err := record.AppendBatch(nil, i, rs, compress)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := l.Append(context.Background(), b); err != nil {
			tb.Fatal(err)
		}
		written += perBatch * (valueBytes + 30)
	}
	_, end := l.Bounds()
	if err := l.Roll(context.Background(), end); err != nil {
		tb.Fatal(err)
	}
	return s, l, cfg
}

// BenchmarkClean makes one round over a log. MB/s are those of the log, as it was
// before; the ceiling reads the same bytes once, checks them, and writes those that
// stay.
func BenchmarkClean(b *testing.B) {
	const total = 128 << 20
	for _, size := range []int{100, 1000} {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			b.Run(fmt.Sprintf("value=%d/%s", size, codec), func(b *testing.B) {
				var spent time.Duration
				var cleaned int64
				for range b.N {
					b.StopTimer()
					s, l, cfg := benchLog(b, b.TempDir(), total, size, codec)
					if err := l.Flush(context.Background(), 1<<62); err != nil {
						b.Fatal(err)
					}
					c := compact.Assess(l.State(), compact.Policy{Stable: 1 << 62, Now: time.Now()})
					b.SetBytes(c.Dirty)
					cleaner := compact.New(testCompressors, nil, 64<<20)
					before := processorTime(b)
					b.StartTimer()
					res, err := cleaner.Clean(context.Background(), compact.Task{
						Log: l.(compact.Log), From: c.From, Below: c.Below, Now: time.Now(), DeleteRetention: time.Hour,
						SegmentBytes: cfg.SegmentBytes, IndexBytes: cfg.IndexBytes, IndexInterval: cfg.IndexIntervalBytes,
					}, compact.Limits{})
					b.StopTimer()
					if err != nil || res.Kept*3 > res.Records*2 {
						b.Fatalf("%+v, %v", res, err)
					}
					spent += processorTime(b) - before
					cleaned += c.Dirty
					b.ReportMetric(float64(cleaned)/1e6/spent.Seconds(), "MB/cpu-s")
					b.ReportMetric(float64(res.Records)/1e6, "Mrecords")
					b.ReportMetric(float64(res.After)/float64(res.Before), "kept")
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	b.Run("ceiling", func(b *testing.B) {
		dir := b.TempDir()
		s, _, _ := benchLog(b, dir, total, 1000, record.None)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(dir, "t-0", "*.log"))
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 256<<10)
		before, total := processorTime(b), int64(0)
		for range b.N {
			var size int64
			for _, name := range names {
				n, err := ceiling(name, buf)
				if err != nil {
					b.Fatal(err)
				}
				size += n
			}
			b.SetBytes(size)
			total += size
		}
		b.ReportMetric(float64(total)/1e6/(processorTime(b)-before).Seconds(), "MB/cpu-s")
	})
}

// processorTime is what the process has had of the processors: on a machine that
// others use as well it says more than the clock.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ceiling reads a file of batches twice, checks each of them once, and writes every
// second one to a file that is synced.
func ceiling(name string, buf []byte) (int64, error) {
	in, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(name + ".copy")
	if err != nil {
		return 0, err
	}
	defer func() { _ = out.Close() }()
	var size int64
	var pending []byte
	for pass := range 2 {
		size = 0
		for have, n := 0, 0; ; n++ {
			got, err := in.ReadAt(buf[have:], size)
			size += int64(got)
			have += got
			rest := record.Batches(buf[:have])
			for {
				x, r, ok := rest.Next()
				if !ok {
					break
				}
				if pass == 0 {
					if err := record.Check(x); err != nil {
						return 0, err
					}
				} else if n%2 == 0 {
					if pending = append(pending, x...); len(pending) > len(buf) {
						if _, err := out.Write(pending); err != nil {
							return 0, err
						}
						pending = pending[:0]
					}
				}
				n++
				rest = r
			}
			have = copy(buf, rest)
			if err != nil {
				break
			}
		}
	}
	if _, err := out.Write(pending); err != nil {
		return 0, err
	}
	return size, out.Sync()
}

// TestScanDoesNotAllocate: what a round costs does not grow with the records.
func TestScanDoesNotAllocate(t *testing.T) { // not parallel: allocations are counted
	allocs := func(records int) float64 {
		l := newLog(t)
		for n := 0; n < records; n += 100 {
			var rs []rec
			for i := range 100 {
				rs = append(rs, kv(fmt.Sprint("key", (n+i)%1000), "value"))
			}
			l.add(info(1000), rs...)
		}
		l.roll()
		l.clean(2000)
		l.point = 0
		return testing.AllocsPerRun(3, func() { l.point = 0; l.clean(2000) })
	}
	few, many := allocs(2000), allocs(40_000)
	if many > few+200 {
		t.Errorf("%v allocations for 2,000 records, %v for 40,000", few, many)
	}
}
