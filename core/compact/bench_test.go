package compact_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/compact"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/storage/mmap"
)

// benchCase is a log to compact.
type benchCase struct {
	value  int // bytes
	codec  record.Codec
	spread bool // superseded are half of the records of each batch, not all of those of the older half of the log
}

func (c benchCase) String() string {
	which := "older-half"
	if c.spread {
		which = "every-second"
	}
	return fmt.Sprintf("value=%d/%s/%s", c.value, c.codec, which)
}

// benchValues are values as services write them, to be picked from: field names over
// and over with words, numbers and ids, which lz4 halves or better.
func benchValues(size int) [][]byte {
	rnd := rand.New(rand.NewPCG(3, 4))
	words := make([]string, 200)
	for i := range words {
		words[i] = strconv.FormatUint(rnd.Uint64()>>uint(20+rnd.IntN(30)), 36)
	}
	out := make([][]byte, 4096)
	for i := range out {
		var v []byte
		for len(v) < size {
			v = fmt.Appendf(v, `{"id":"%016x","state":"%s","amount":%d,"currency":"EUR","note":"%s %s"},`, rnd.Uint64(), words[rnd.IntN(8)],
				rnd.IntN(100_000), words[rnd.IntN(len(words))], words[rnd.IntN(len(words))])
		}
		out[i] = v[:size]
	}
	return out
}

// benchLog writes about total bytes of records in closed segments, in batches of 16 KiB
// before compression, half of whose records are superseded.
func benchLog(tb testing.TB, dir string, total int, bc benchCase) (*mmap.Storage, core.Log, core.LogConfig) {
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
	perBatch := max(1, 16<<10/(bc.value+30))
	perBatch += perBatch % 2
	batches := total / (bc.value + 30) / perBatch / 2 * 2
	values := benchValues(bc.value)
	newest := 0
	// key is that of record i of batch n: every key is written twice.
	key := func(n, i int) int {
		if !bc.spread {
			return n%(batches/2)*perBatch + i
		}
		if i%2 == 1 || n == batches-1 {
			newest++
			return 1<<30 + newest // once only
		}
		return n/2*perBatch + i // by both batches of a pair
	}
	rs := make([]record.Record, perBatch)
	for n := range batches {
		for i := range rs {
			// Scattered, as keys are.
			k := uint64(key(n, i)) * 0x9e3779b97f4a7c15
			rs[i] = record.Record{OffsetDelta: int32(i), TimestampDelta: int64(i), Key: fmt.Appendf(nil, "key-%012x", k>>16), Value: values[(n*perBatch+i)*7919%len(values)]}
		}
		i := record.NewBatchInfo(int64(n*perBatch), 1_700_000_000_000)
		i.Codec = bc.codec
		b, err := record.AppendBatch(nil, i, rs, compressWith(bc.codec))
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := l.Append(context.Background(), b); err != nil {
			tb.Fatal(err)
		}
	}
	_, end := l.Bounds()
	if err := l.Roll(context.Background(), end); err != nil {
		tb.Fatal(err)
	}
	if err := l.Flush(context.Background(), 1<<62); err != nil {
		tb.Fatal(err)
	}
	return s, l, cfg
}

func compressWith(codec record.Codec) func(dst, src []byte) ([]byte, error) {
	if codec == record.None {
		return nil
	}
	return func(dst, src []byte) ([]byte, error) {
		return testCompressors[codec].Compress(dst, src, core.CompressionParams{Level: core.DefaultLevel, Magic: 2})
	}
}

// BenchmarkClean makes one round over a log, on whatever processors there are, and counts
// what it has had of them, garbage collection included. MB/cpu-s are bytes of the log as
// it was before, as Kafka's cleaner counts them; plain-MB/cpu-s the same records
// without compression. The ceiling, measured in turn, does no more than it must with the
// same codec: read everything once, check it, decompress, compress what stays, write.
// x-ceiling is the processor time of the round by that of the ceiling.
func BenchmarkClean(b *testing.B) {
	const total = 64 << 20
	for _, size := range []int{100, 1000} {
		for _, codec := range []record.Codec{record.None, record.LZ4, record.Snappy, record.Zstd} {
			for _, spread := range []bool{false, true} {
				bc := benchCase{size, codec, spread}
				b.Run(bc.String(), func(b *testing.B) { benchClean(b, total, bc) })
			}
		}
	}
}

func benchClean(b *testing.B, total int, bc benchCase) {
	var spent, bare time.Duration
	var stored, plain int64
	var last compact.Result
	for range b.N {
		b.StopTimer()
		dir := b.TempDir()
		s, l, cfg := benchLog(b, dir, total, bc)
		before := processorTime(b)
		n, err := ceiling(dir, bc)
		if err != nil {
			b.Fatal(err)
		}
		bare += processorTime(b) - before
		plain += n
		c := compact.Assess(l.State(), compact.Policy{Stable: 1 << 62, Now: time.Now()})
		stored += c.Dirty
		b.SetBytes(c.Dirty)
		cleaner := compact.New(testCompressors, nil, 64<<20)
		runtime.GC()
		before = processorTime(b)
		b.StartTimer()
		last, err = cleaner.Clean(context.Background(), compact.Task{
			Log: l.(compact.Log), From: c.From, Below: c.Below, Now: time.Now(), DeleteRetention: time.Hour,
			SegmentBytes: cfg.SegmentBytes, IndexBytes: cfg.IndexBytes, IndexInterval: cfg.IndexIntervalBytes,
		}, compact.Limits{})
		b.StopTimer()
		spent += processorTime(b) - before
		if kept := float64(last.Kept) / float64(last.Records); err != nil || kept < 0.45 || kept > 0.8 {
			b.Fatalf("%+v, %v", last, err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(stored)/1e6/spent.Seconds(), "MB/cpu-s")
	b.ReportMetric(float64(plain)/1e6/spent.Seconds(), "plain-MB/cpu-s")
	b.ReportMetric(spent.Seconds()/bare.Seconds(), "x-ceiling")
	b.ReportMetric(float64(last.Kept)/float64(last.Records), "kept")
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

// ceiling reads the batches of a log once and checks them, decompresses them, and
// writes half of what it has read to a file that is synced: half of the batches, or
// half of each, compressed again. It answers the bytes without compression.
func ceiling(dir string, bc benchCase) (plainBytes int64, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "t-0", "*.log"))
	if err != nil {
		return 0, err
	}
	out, err := os.Create(filepath.Join(dir, "ceiling"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(out.Name()) }()
	defer func() { _ = out.Close() }()
	buf := make([]byte, 256<<10)
	var plain, pending []byte
	compress := compressWith(bc.codec)
	n := 0
	each := func(x record.Batch) error {
		if err := record.Check(x); err != nil {
			return err
		}
		records := x.Payload()
		if compress != nil {
			if plain, err = testCompressors[bc.codec].Decompress(plain[:0], records, core.CompressionParams{Level: core.DefaultLevel, Magic: 2}); err != nil {
				return err
			}
			records = plain
		}
		plainBytes += int64(len(records)) + record.HeaderSize
		switch n++; {
		case !bc.spread && n%2 == 0:
			pending = append(pending, x...)
		case bc.spread && compress == nil:
			pending = append(append(pending, x[:record.HeaderSize]...), records[len(records)/2:]...)
		case bc.spread:
			if pending, err = compress(append(pending, x[:record.HeaderSize]...), records[len(records)/2:]); err != nil {
				return err
			}
		}
		if len(pending) > len(buf) {
			_, err := out.Write(pending)
			pending = pending[:0]
			return err
		}
		return nil
	}
	for _, name := range names {
		if err := eachBatch(name, buf, each); err != nil {
			return 0, err
		}
	}
	if _, err := out.Write(pending); err != nil {
		return 0, err
	}
	return plainBytes, out.Sync()
}

func eachBatch(name string, buf []byte, use func(record.Batch) error) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	for at, have := int64(0), 0; ; {
		got, readErr := in.ReadAt(buf[have:], at)
		at += int64(got)
		have += got
		rest := record.Batches(buf[:have])
		for {
			x, r, ok := rest.Next()
			if !ok {
				break
			}
			if err := use(x); err != nil {
				return err
			}
			rest = r
		}
		have = copy(buf, rest)
		if readErr != nil {
			return nil // the end: a closed segment holds whole batches
		}
	}
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
