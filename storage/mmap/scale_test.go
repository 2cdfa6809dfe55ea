package mmap_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/core"
	"github.com/millrace/millrace/core/record"
	"github.com/millrace/millrace/internal/vfs"
	"github.com/millrace/millrace/internal/vfs/vfstest"
	"github.com/millrace/millrace/storage/mmap"
)

// BenchmarkGroupCommit compares commits, each an append of 1 KiB that returns when it
// is on disk, of one goroutine and of 64 that wait at the same time, and pwrite with
// fdatasync by one. They take turns; gain is the median of what 64 get done in the time
// in which one gets one done.
func BenchmarkGroupCommit(b *testing.B) {
	const waiters, single, grouped = 64, 20, 20 * 64
	l, _ := openLog(b, open(b, b.TempDir()), logID(), core.DefaultLogConfig())
	f, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	// Reserved and as long as that, as a segment is: the size need not be synced.
	if err := errors.Join(reserveBare(f, 0), f.Truncate(bareChunk)); err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex // as a partition's write lock
	batches := make([]record.Batch, waiters)
	for i := range batches {
		batches[i] = sized(b, 1<<10)
	}
	commit := func(batch record.Batch) error {
		mu.Lock()
		err := appendOne(l, batch, 0)
		_, end := l.Bounds()
		mu.Unlock()
		return errors.Join(err, l.Flush(context.Background(), end))
	}
	at := int64(0)
	bare := func(batch record.Batch) error {
		_, err := f.WriteAt(batch, at)
		at = (at + int64(len(batch))) % (bareChunk - 4096)
		return errors.Join(err, syncBare(f))
	}
	each := func(n, goroutines int, do func(record.Batch) error) time.Duration {
		from := time.Now()
		var wg sync.WaitGroup
		for i := range goroutines {
			wg.Go(func() {
				for range n / goroutines {
					if err := do(batches[i]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return time.Since(from) / time.Duration(n)
	}
	var gains, toBare []float64
	var one, many, calls time.Duration
	for b.Loop() {
		x, y, z := each(single, 1, commit), each(grouped, waiters, commit), each(single, 1, bare)
		gains, toBare = append(gains, float64(x)/float64(y)), append(toBare, float64(x)/float64(z))
		one, many, calls = one+x, many+y, calls+z
	}
	slices.Sort(gains)
	slices.Sort(toBare)
	b.ReportMetric(gains[len(gains)/2], "gain")
	b.ReportMetric(toBare[len(toBare)/2], "x-bare")
	b.ReportMetric(float64(one.Microseconds())/float64(len(gains)), "single-µs/commit")
	b.ReportMetric(float64(many.Microseconds())/float64(len(gains)), "of64-µs/commit")
	b.ReportMetric(float64(calls.Microseconds())/float64(len(gains)), "bare-µs/commit")
}

// hollow is a file system on which only the headers of large batches are written: what
// is between them are holes. Look-ups read headers and indexes alone, which are all
// there, so that a log of 50 GB takes a few GB of disk.
type hollow struct{ quick }

func (h hollow) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := h.quick.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return hollowFile{f}, nil
}

type hollowFile struct{ vfs.File }

func (f hollowFile) WriteAt(p []byte, off int64) (int, error) {
	if _, err := f.File.WriteAt(p[:min(len(p), record.HeaderSize)], off); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f hollowFile) Allocate(off, n int64) error {
	size, err := f.Size()
	if err != nil || size >= off+n {
		return err
	}
	return f.Truncate(off + n)
}

// hollowLog has batches of 64 KiB, each with an entry in the index, up to so many
// bytes in segments of 1 GiB.
func hollowLog(b *testing.B, bytes int64) (core.Log, int64) {
	b.Helper()
	s := openFS(b, hollow{}, b.TempDir())
	l, _ := openLog(b, s, logID(), core.DefaultLogConfig())
	batch := sized(b, 64<<10)
	n := bytes / int64(len(batch))
	for o := range n {
		batch.SetBaseOffset(o)
		batch.SetLogAppendTime(1 + o)
		if _, err := l.Append(context.Background(), record.Batches(batch)); err != nil {
			b.Fatal(err)
		}
	}
	return l, n
}

// BenchmarkLookUpScale compares look-ups at random offsets, and by random times, in a log
// of 1 GB and one of MILLRACE_BENCH_GB (default 4, make bench-log takes 50), and a bare
// pread of a header at a random place of the same files. The logs are hollow: real
// indexes and headers, holes for records. They take turns; flat is the median of the
// time in the large log by that in the small one, bare-flat the same of the preads: the
// processor's caches hold the smaller log's pages better.
func BenchmarkLookUpScale(b *testing.B) {
	gb := int64(4)
	if env := os.Getenv("MILLRACE_BENCH_GB"); env != "" {
		n, err := strconv.ParseInt(env, 10, 64)
		if err != nil {
			b.Fatalf("MILLRACE_BENCH_GB: %v", err)
		}
		gb = n
	}
	const lookups = 5000
	small, nSmall := hollowLog(b, 1<<30)
	large, nLarge := hollowLog(b, gb<<30)
	rnd := rand.New(rand.NewPCG(1, 2))
	byOffset := func(l core.Log, n int64) time.Duration {
		from := time.Now()
		for range lookups {
			readOne(b, l, core.ReadRequest{From: rnd.Int64N(n), Below: n, MaxBytes: 1, MinOneBatch: true})
		}
		return time.Since(from) / lookups
	}
	byTime := func(l core.Log) time.Duration {
		last := l.State().Segments
		newest := last[len(last)-1].MaxTimestamp
		from := time.Now()
		for range lookups {
			c, err := l.BatchForTimestamp(context.Background(), rnd.Int64N(newest+1))
			if err != nil || c.Slice == nil {
				b.Fatalf("look-up by time: %+v, %v", c, err)
			}
			if err := c.Slice.Close(); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(from) / lookups
	}
	bareSmall, bareLarge := bareReader(b, small), bareReader(b, large)
	defer bareSmall.close()
	defer bareLarge.close()
	var flat, flatTime, bareFlat []float64
	var sums [6]time.Duration
	for b.Loop() {
		t := [6]time.Duration{
			byOffset(small, nSmall), byOffset(large, nLarge), byTime(small), byTime(large),
			bareSmall.time(b, rnd, lookups), bareLarge.time(b, rnd, lookups),
		}
		bareFlat = append(bareFlat, float64(t[5])/float64(t[4]))
		flat, flatTime = append(flat, float64(t[1])/float64(t[0])), append(flatTime, float64(t[3])/float64(t[2]))
		for i := range t {
			sums[i] += t[i]
		}
	}
	slices.Sort(flat)
	slices.Sort(flatTime)
	slices.Sort(bareFlat)
	b.ReportMetric(flat[len(flat)/2], "flat")
	b.ReportMetric(flatTime[len(flat)/2], "flat-by-time")
	b.ReportMetric(bareFlat[len(flat)/2], "bare-flat")
	big := fmt.Sprintf("%dGB", gb)
	for i, unit := range []string{
		"1GB-ns/look-up", big + "-ns/look-up", "1GB-ns/by-time", big + "-ns/by-time", "1GB-ns/pread", big + "-ns/pread",
	} {
		b.ReportMetric(float64(sums[i].Nanoseconds())/float64(len(flat)), unit)
	}
}

// preads reads headers from the files of a log.
type preads struct {
	files []*os.File
	sizes []int64
}

func bareReader(b *testing.B, l core.Log) *preads {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(l.State().Dir, "t-0", "*.log"))
	if err != nil || len(names) == 0 {
		b.Fatal(names, err)
	}
	r := &preads{}
	for i, s := range l.State().Segments {
		f, err := os.Open(names[i])
		if err != nil {
			b.Fatal(err)
		}
		r.files, r.sizes = append(r.files, f), append(r.sizes, s.Bytes>>16)
	}
	return r
}

func (r *preads) time(b *testing.B, rnd *rand.Rand, n int) time.Duration {
	var header [record.HeaderSize]byte
	from := time.Now()
	for range n {
		i := rnd.IntN(len(r.files))
		if _, err := r.files[i].ReadAt(header[:], rnd.Int64N(r.sizes[i])<<16); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(from) / time.Duration(n)
}

func (r *preads) close() {
	for _, f := range r.files {
		_ = f.Close() // only read from
	}
}

// BenchmarkRecovery kills a storage that has 16 MiB beyond the recovery point of a log
// of several sizes, and opens it again. What is read is what counts: scanned is that
// by what lies beyond the recovery point, of which the segment that the point is in
// may add one batch.
func BenchmarkRecovery(b *testing.B) {
	const tail = 16 << 20
	for _, size := range []int64{64 << 20, 256 << 20, 1 << 30} {
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			cfg := core.DefaultLogConfig()
			cfg.SegmentBytes = 128 << 20
			fs := vfstest.NewFaults(quick{}, nil)
			s := openFS(b, fs, dir)
			l, _ := openLog(b, s, logID(), cfg)
			batch := sized(b, 16<<10)
			add := func(bytes int64) (next int64) {
				for range bytes / int64(len(batch)) {
					_, next = l.Bounds()
					batch.SetBaseOffset(next)
					if _, err := l.Append(ctx, record.Batches(batch)); err != nil {
						b.Fatal(err)
					}
				}
				return next + 1
			}
			point := add(size)
			if err := l.Flush(ctx, point); err != nil {
				b.Fatal(err)
			}
			if err := s.Checkpoint(ctx, core.RecoveryPoints, map[core.TopicPartition]int64{logID().TopicPartition: point}); err != nil {
				b.Fatal(err)
			}
			end := add(tail)
			kill := func() {
				fs.Decide(func(vfstest.Op) vfstest.Fault { return vfstest.Fault{Err: vfstest.ErrPower} })
				_ = s.Close() // every call fails: only memory is given back
			}
			kill()
			var scanned int64
			var took time.Duration
			for b.Loop() {
				fs = vfstest.NewFaults(quick{}, nil)
				from := time.Now()
				var err error
				if s, err = mmap.Open(ctx, mmap.Options{Dirs: []string{dir}, FS: fs}); err != nil {
					b.Fatal(err)
				}
				log, rec := openLog(b, s, logID(), cfg)
				took += time.Since(from)
				scanned += rec.Scanned
				if _, got := log.Bounds(); got != end || rec.Clean {
					b.Fatalf("the log ends at %d, want %d: %+v", got, end, rec)
				}
				kill()
			}
			b.ReportMetric(float64(scanned)/float64(b.N)/tail, "scanned")
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/recovery")
		})
	}
}
